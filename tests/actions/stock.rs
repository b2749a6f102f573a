//! What stock actions ask of their surroundings: git at `GITHUB_SERVER_URL`, the API, tokens with permissions.

use super::{Desk, way};
use crate::support::sshd::Sshd;

/// Does what a stock checkout does: the same addresses, headers and refspecs, with the job's own token.
const CHECKOUT: &str = r"
const { execFileSync } = require('child_process');
const fs = require('fs');
const e = process.env;
const directory = `${e.GITHUB_WORKSPACE}/${e.INPUT_PATH}`;
fs.mkdirSync(directory, { recursive: true });
const git = (...words) => execFileSync('git', words, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
const server = new URL(e.GITHUB_SERVER_URL);
if (!/^[0-9.]+$/.test(server.hostname)) throw new Error(`not every resolver knows ${server}`);
const basic = Buffer.from(`x-access-token:${e.INPUT_TOKEN}`).toString('base64');
console.log(`::add-mask::${basic}`);
git('init', '-q', '.');
git('remote', 'add', 'origin', `${server.origin}/${e.GITHUB_REPOSITORY}`);
git('config', '--local', `http.${server.origin}/.extraheader`, `AUTHORIZATION: basic ${basic}`);
const refs = e.INPUT_DEPTH === '0'
  ? ['+refs/heads/*:refs/remotes/origin/*', '+refs/tags/*:refs/tags/*']
  : ['--depth=1', `+${e.GITHUB_SHA}:refs/remotes/origin/main`];
const options = refs.filter(word => word.startsWith('--'));
git('-c', 'protocol.version=2', 'fetch', '--no-tags', '--prune', '--filter=blob:none', ...options, 'origin', ...refs.filter(word => !word.startsWith('--')));
git('checkout', '-q', '--force', '-B', 'main', 'refs/remotes/origin/main');
console.log(`say: ${git('log', '--format=%s').trim().split('\n').length} commits`);
";

const MANIFEST: &str = "name: checkout\ninputs:\n  token: { default: '${{ github.token }}' }\n  path: { default: '.' }\n  depth: { default: '1' }\nruns: { using: node20, main: main.js }\n";

const WORKFLOW: &str = r#"
on: push
permissions: { contents: PERMISSION, actions: read }
jobs:
  one:
    runs-on: x
    steps:
      - { uses: actions/checkout@v1, with: { path: . } }
      - run: "echo \"say: $(cat README)\""
      - { uses: actions/checkout@v1, with: { path: all, depth: 0 } }
      - name: API
        env: { TOKEN: "${{ github.token }}" }
        run: |
          api() { curl -sS -o /tmp/answer.$$ -w '%{http_code}' -H "Authorization: Bearer $1" "$GITHUB_API_URL/repos/$2"; }
          echo "say: own $(api "$TOKEN" "$GITHUB_REPOSITORY")"
          echo "say: forged $(api "${TOKEN}x" "$GITHUB_REPOSITORY")"
          echo "say: foreign $(api "$TOKEN" other/repository)"
          echo "say: artifacts $(api "$TOKEN" "$GITHUB_REPOSITORY/actions/artifacts")"
          curl -sSfL -H "Authorization: Bearer $TOKEN" "$GITHUB_API_URL/repos/$GITHUB_REPOSITORY/tarball/$GITHUB_SHA" | tar tzf - | grep -c README
      - name: push
        run: |
          git -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m more
          if git push -q origin HEAD:refs/heads/other; then echo 'say: pushed'; else echo 'say: refused'; fi
"#;

fn check(arguments: &[&str]) {
    let desk = Desk::new();
    desk.commit();
    desk.action("actions/checkout", &[("action.yml", MANIFEST), ("main.js", CHECKOUT)]);
    let arguments = [&["--checkout", "node"], arguments].concat();
    for (permission, pushed) in [("write", "pushed"), ("read", "refused")] {
        let ran = desk.run(&WORKFLOW.replace("PERMISSION", permission), &arguments);
        ran.must_succeed();
        let commits = if permission == "write" { "2 commits" } else { "3 commits" };
        assert_eq!(
            ran.said(),
            ["1 commits", "hello", commits, "own 200", "forged 401", "foreign 404", "artifacts 200", pushed],
            "{}",
            ran.log
        );
    }
}

#[test]
fn a_stock_checkout_fetches_from_here() {
    check(&[]);
}

#[test]
fn a_stock_checkout_fetches_through_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let way = way(&sshd);
    check(&way.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_token_of_a_run_ends_with_it() {
    let desk = Desk::new();
    let file = desk.path("token");
    let workflow = format!(
        "on: push\njobs:\n  one:\n    runs-on: x\n    outputs: {{ leaked: '${{{{ github.token }}}}' }}\n    steps:\n\
         \x20     - run: printf %s '${{{{ github.token }}}}' > {}\n      - run: test -n '${{{{ secrets.GITHUB_TOKEN }}}}'\n",
        file.display()
    );
    let ran = desk.run(&workflow, &[]);
    ran.must_succeed();
    let token = std::fs::read_to_string(&file).unwrap();
    assert!(token.starts_with("ghs_"), "{token}");
    // It is a secret: neither in the log nor in an output.
    assert!(!ran.log.contains(&token) && !ran.result.to_string().contains(&token), "{}", ran.log);
    // A token that was given is the one the job has.
    let ran = desk.run(&workflow, &["--secret", "GITHUB_TOKEN=given"]);
    ran.must_succeed();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "given");
}
