//! Actions as their authors publish them on npm, with the manifests they have there.

use super::{Desk, git, way};
use crate::support::clients;
use crate::support::sshd::Sshd;

/// It takes the host of `GITHUB_SERVER_URL`, puts `https://` and the token before it, and pushes there.
const DEPLOY: &str = "@jamesives/github-pages-deploy-action";

const WORKFLOW: &str = r#"
on: push
permissions: { contents: write }
jobs:
  pages:
    concurrency: ci-${{ github.ref }}
    runs-on: x
    steps:
      - uses: actions/checkout@v4
      - run: |
          mkdir -p build
          echo "<h1>${{ github.sha }}</h1>" > build/index.html
      - id: deploy
        uses: JamesIves/github-pages-deploy-action@v1
        with: { folder: build }
      - run: "echo \"say: ${{ steps.deploy.outputs.deployment-status }} ${{ env.deployment_status }}\""
      - run: "echo \"say: git ${GIT_CONFIG_COUNT:-as it is}\""
      - uses: actions/checkout@v4
        with: { ref: gh-pages }
      - run: "echo \"say: $(cat index.html)\""
"#;

fn check(arguments: &[&str]) {
    let Some(packages) = clients::node(&[DEPLOY]) else { return };
    let package = packages.join("node_modules").join(DEPLOY);
    let manifest = std::fs::read_to_string(package.join("action.yml")).unwrap();
    assert!(manifest.contains("'lib/main.js'"), "{manifest}");
    let main = format!("import '{}';\n", package.join("lib/main.js").display());
    let desk = Desk::new();
    let files = [("action.yml", manifest.replace("'lib/main.js'", "main.mjs")), ("main.mjs", main)];
    desk.action("JamesIves/github-pages-deploy-action", &files.each_ref().map(|(path, text)| (*path, text.as_str())));
    let ran = desk.run(WORKFLOW, arguments);
    ran.must_succeed();
    let sha = git(&desk.path("repo"), &["rev-parse", "HEAD"]);
    let page = format!("<h1>{}</h1>", sha.trim());
    assert_eq!(ran.said(), ["success success", "git as it is", page.as_str()], "{}", ran.log);
}

#[test]
fn pages_are_deployed_from_here() {
    check(&[]);
}

#[test]
fn pages_are_deployed_over_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let way = way(&sshd);
    check(&way.iter().map(String::as_str).collect::<Vec<_>>());
}
