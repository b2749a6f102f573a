//! Actions that are repositories of this server.

use super::{Lab, git, ssh_host};
use crate::support::sshd::Sshd;

const ACTION: &str =
    "name: tool\nruns:\n  using: composite\n  steps:\n    - { run: \"echo 'said by the tool'\", shell: sh }\n";

#[test]
fn a_repository_that_is_pushed_here_serves_as_action() {
    let Some(server) = Sshd::start() else { return };
    let lab = Lab::new(&ssh_host(&server));
    let idle = "on: workflow_dispatch\njobs:\n  a:\n    runs-on: x\n    steps: [{run: 'true'}]\n";
    lab.push("ada/tool", idle);
    let (work, bare) = (lab.path("ada-tool"), lab.path("state/repositories/ada/tool.git"));
    std::fs::write(work.join("action.yml"), ACTION).unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "An action"]);
    git(&work, &["push", "-q", bare.to_str().unwrap(), "main"]);
    let uses =
        |what: &str| format!("on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: {what}\n");
    lab.push("ada/app", &uses("Ada/tool@main"));
    assert_eq!(lab.conclusion("ada/app", 1), "success", "{}", lab.log("ada/app", 1));
    assert!(lab.log("ada/app", 1).contains("said by the tool"));
    lab.push("ada/other", &uses("ada/tool@v9"));
    assert_eq!(lab.conclusion("ada/other", 2), "failure");
    let log = lab.log("ada/other", 2);
    assert!(log.contains("Unable to resolve action `ada/tool@v9`, unable to find version `v9`"), "{log}");
}
