//! The built-in `actions/checkout`: what its inputs do to the workspace, on this machine and over SSH.

use super::{Desk, Ran, commit, git, way, write};
use crate::support::sshd::Sshd;

/// Looks at the checkout after everything else, also after its post step.
const LOOK: &str = "name: look\nruns: { using: node20, main: main.js, post: post.js }\n";
const LOOK_LATE: &str = r"
const { execFileSync } = require('child_process');
const out = (...words) => { try { return execFileSync(words[0], words.slice(1), { encoding: 'utf8' }); } catch (error) { return error.stdout; } };
const left = ['.', 'newer', 'deep'].map(place => out('git', '-C', `${process.env.GITHUB_WORKSPACE}/${place}`, 'config', '--local', '--list'));
console.log(`say: left ${left.join('').split('\n').filter(line => /extraheader|includeif|sshcommand/i.test(line)).length}`);
console.log(`say: files ${out('sh', '-c', 'ls $RUNNER_TEMP | grep -c -e ^git- -e _key').trim()}`);
";

const WORKFLOW: &str = r#"
on: push
permissions: { contents: write }
jobs:
  one:
    runs-on: x
    steps:
      - uses: o/look@v1
      - id: plain
        uses: actions/checkout@v4
      - name: plain
        run: |
          echo "say: $(cat README) on $(git branch --show-current) of $(git rev-parse --abbrev-ref '@{upstream}')"
          echo "say: $(git log --format=%s | wc -l) commits, $(git status --porcelain | wc -l) changed, $(git tag | wc -l) tags"
          test '${{ steps.plain.outputs.commit }}' = "$GITHUB_SHA" && test '${{ steps.plain.outputs.ref }}' = refs/heads/main
          git config --local --get-regexp '^http\..*\.extraheader$' | cut -d' ' -f2-3 | sed 's/^/say: /'
          git fetch -q origin side && echo "say: fetched $(git log -1 --format=%s FETCH_HEAD)"
          git -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m more
          git push -q origin HEAD:refs/heads/pushed && echo 'say: pushed'
          touch untracked; echo changed > README
      - { uses: actions/checkout@v4, with: { clean: false } }
      - run: "test -e untracked && echo \"say: kept, $(cat README)\""
      - uses: actions/checkout@v4
      - run: "test ! -e untracked && echo 'say: cleaned'"
      - { uses: actions/checkout@v6, with: { path: newer, fetch-depth: 2, fetch-tags: true } }
      - working-directory: newer
        run: |
          echo "say: newer $(git log --format=%s main | wc -l) commits, $(git tag | wc -l) tags, $(git cat-file -t v1)"
          ! git config --local --no-includes --get-regexp extraheader && echo "say: $(git config --get-regexp extraheader | grep -c towline.localhost) included"
          echo "say: $(git config --local --get-regexp '^includeif' | grep -c git-credentials) includes"
          git push -q origin HEAD:refs/heads/pushed-too && echo 'say: pushed too'
      - { uses: actions/checkout@v4, with: { path: all, fetch-depth: 0, persist-credentials: false } }
      - working-directory: all
        run: |
          echo "say: all $(git log --format=%s | wc -l) commits, $(git branch -r | wc -l) branches, $(git tag | wc -l) tags"
          git config --get-regexp extraheader || echo 'say: no credentials'
          git fsck --full --strict 2>&1 | sed 's/^/say: /'
      - { id: tagged, uses: actions/checkout@v4, with: { path: tagged, ref: v1 } }
      - working-directory: tagged
        run: |
          echo "say: ${{ steps.tagged.outputs.ref }} $(git cat-file -t v1) $(git log -1 --format=%s) $(git branch --show-current)"
      - { id: sha, uses: actions/checkout@v4, with: { path: sha, ref: '${{ github.sha }}' } }
      - run: 'test "${{ steps.sha.outputs.ref }}" = "" && test "${{ steps.sha.outputs.commit }}" = "$GITHUB_SHA" && echo "say: by id"'
      - uses: actions/checkout@v4
        with: { path: cone, sparse-checkout: deep/er }
      - run: "cd cone && echo \"say: $(git ls-files -t | grep -c ^H) here: $(echo *)\""
      - uses: actions/checkout@v4
        with:
          path: patterns
          sparse-checkout-cone-mode: false
          sparse-checkout: |
            /deep/er/
      - run: "cd patterns && echo \"say: here: $(echo *)\""
      - id: missing
        continue-on-error: true
        uses: actions/checkout@v4
        with: { path: missing, ref: nowhere }
      - run: 'test ${{ steps.missing.outcome }} = failure && echo "say: no such ref"'
      - { uses: actions/checkout@v4, with: { repository: o/look, path: other, ref: v1 } }
      - run: "echo \"say: other $(ls other | tr '\\n' ' ')\""
"#;

fn check(arguments: &[&str]) {
    let desk = Desk::new();
    desk.action("o/look", &[("action.yml", LOOK), ("main.js", ""), ("post.js", LOOK_LATE)]);
    desk.write("deep/er/file", "x\n");
    desk.write("other/file", "x\n");
    desk.commit();
    let repo = desk.path("repo");
    git(&repo, &["tag", "-a", "-m", "the first", "v1"]);
    git(&repo, &["checkout", "-q", "-b", "side"]);
    write(&repo.join("side"), "x\n");
    commit(&repo, "on the side");
    git(&repo, &["checkout", "-q", "main"]);
    desk.write("more", "x\n");
    desk.commit();
    let ran = desk.run(WORKFLOW, arguments);
    ran.must_succeed();
    let expected = [
        "hello on main of origin/main",
        "1 commits, 0 changed, 0 tags",
        "AUTHORIZATION: basic",
        "fetched on the side",
        "pushed",
        "kept, hello",
        "cleaned",
        "newer 2 commits, 1 tags, tag",
        "1 included",
        "4 includes",
        "pushed too",
        "all 3 commits, 4 branches, 1 tags",
        "no credentials",
        "refs/tags/v1 tag change",
        "by id",
        "3 here: README deep more",
        "here: deep",
        "no such ref",
        "other action.yml main.js post.js",
        "left 0",
        "files 0",
    ];
    let said = ran.said();
    assert_eq!(said.len(), expected.len(), "{said:#?}\n{}", ran.log);
    for (said, expected) in said.iter().zip(expected) {
        assert_eq!(said.trim(), expected, "{}", ran.log);
    }
    for line in [
        "Syncing repository: ",
        "Getting Git version info",
        "Initializing the repository",
        "Setting up auth",
        "Fetching the repository",
        "Checking out the ref",
        "git checkout --progress --force -B main refs/remotes/origin/main",
        "git log -1 --format=%H",
        "Removing previously created refs, to avoid conflicts",
        "Cleaning the repository",
        "Post job cleanup.",
        "A branch or tag with the name 'nowhere' could not be found",
    ] {
        assert!(ran.log.contains(line), "{line} is not in {}", ran.log);
    }
    assert!(!ran.log.contains("ghs_"), "{}", ran.log);
}

#[test]
fn inputs_do_what_the_actions_do_on_this_machine() {
    check(&[]);
}

#[test]
fn inputs_do_what_the_actions_do_over_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let way = way(&sshd);
    check(&way.iter().map(String::as_str).collect::<Vec<_>>());
}

const MODULES: &str = r#"
on: push
jobs:
  one:
    runs-on: x
    steps:
      - { uses: actions/checkout@VERSION, with: { submodules: recursive, path: . } }
      - run: |
          echo "say: $(cat lib/file) $(cat lib/inner/file) $(git submodule status --recursive | wc -l) $(git status --porcelain | wc -l)"
          echo "say: $(git -C lib log --format=%s | wc -l) commits, $(git -C lib config --get-regexp extraheader | wc -l) headers"
      - { uses: actions/checkout@VERSION, with: { submodules: recursive, persist-credentials: false } }
      - run: |
          echo "say: again $(cat lib/inner/file), $(git -C lib config --get-regexp extraheader | wc -l) headers"
      - { uses: actions/checkout@VERSION, with: { path: direct, submodules: true, fetch-depth: 0 } }
      - run: "echo \"say: direct $(cat direct/lib/file) $(ls direct/lib/inner | wc -l) $(git -C direct/lib log --format=%s | wc -l)\""
      - { uses: actions/checkout@VERSION, with: { path: none } }
      - run: "echo \"say: none $(ls none/lib | wc -l)\""
"#;

/// A repository whose submodule has one of its own, with addresses that are relative and absolute.
fn with_submodules() -> Desk {
    let desk = Desk::new();
    let inner = desk.action("o/inner", &[("file", "inner\n")]);
    let modules = "[submodule \"in ner\"]\n\tpath = inner\n\turl = ../inner.git\n";
    desk.action("o/lib", &[("file", "old\n")]);
    let work = desk.path("work/o/lib");
    git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{inner},inner")]);
    git(&work, &["commit", "-q", "-m", "a submodule"]);
    std::fs::create_dir_all(work.join("inner/.git")).unwrap();
    std::fs::remove_dir_all(work.join("inner")).unwrap();
    write(&work.join(".gitmodules"), modules);
    write(&work.join("file"), "lib\n");
    git(&work, &["add", ".gitmodules", "file"]);
    git(&work, &["commit", "-q", "-m", "named"]);
    git(&work, &["push", "-q", "-f", desk.path("mirror/o/lib.git").to_str().unwrap(), "main"]);
    let lib = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
    desk.write(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = https://forge.example/o/lib.git\n");
    let repo = desk.path("repo");
    git(&repo, &["add", "-A"]);
    git(&repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{lib},lib")]);
    git(&repo, &["commit", "-q", "-m", "a submodule"]);
    std::fs::create_dir_all(repo.join("lib")).unwrap();
    desk
}

/// Commits the workflow without the working tree's word on submodules, which are not checked out here.
fn run_modules(desk: &Desk, text: &str, arguments: &[&str]) -> Ran {
    desk.write(".github/workflows/w.yml", text);
    let repo = desk.path("repo");
    git(&repo, &["add", ".github"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "workflow"]);
    super::finished(&desk.prepared(arguments).output().unwrap())
}

#[test]
fn submodules_come_from_here() {
    let desk = with_submodules();
    for version in ["v4", "v6"] {
        let ran = run_modules(&desk, &MODULES.replace("VERSION", version), &[]);
        ran.must_succeed();
        let expected = ["lib inner 2 0", "1 commits, 1 headers", "again inner, 0 headers", "direct lib 0 3", "none 0"];
        assert_eq!(ran.said(), expected, "{}", ran.log);
        assert!(!ran.log.contains("Cloning into"), "nothing is fetched by the host: {}", ran.log);
    }
}

#[test]
fn a_host_without_git_gets_files_of_submodules_too() {
    let programs = tempfile::tempdir().unwrap();
    let Some(sshd) = without_git(programs.path()) else { return };
    let desk = with_submodules();
    let way = way(&sshd);
    let text = "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - { uses: actions/checkout@v4, with: { submodules: recursive } }\n      \
                - run: \"command -v git || echo \\\"say: $(cat lib/file) $(cat lib/inner/file) $(cat README)\\\"\"\n";
    let ran = run_modules(&desk, text, &way.iter().map(String::as_str).collect::<Vec<_>>());
    ran.must_succeed();
    assert_eq!(ran.said(), ["lib inner hello"], "{}", ran.log);
}

/// A server whose users find all programs but git.
fn without_git(programs: &std::path::Path) -> Option<Sshd> {
    for entry in ["/usr/bin", "/bin"].iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("git") {
            drop(std::os::unix::fs::symlink(entry.path(), programs.join(entry.file_name())));
        }
    }
    Sshd::start_with(&format!("SetEnv PATH={}", programs.display()))
}

#[test]
fn files_of_git_lfs_take_the_place_of_their_pointers() {
    let has_lfs =
        std::process::Command::new("git").args(["lfs", "version"]).output().is_ok_and(|done| done.status.success());
    if !has_lfs {
        eprintln!("skipped: git-lfs is not installed");
        return;
    }
    let desk = Desk::new();
    let repo = desk.path("repo");
    git(&repo, &["lfs", "install", "--local"]);
    desk.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    desk.write("large.bin", "large content\n");
    desk.write("small.bin", "another\n");
    desk.commit();
    let text = "on: push\npermissions: { contents: write }\njobs:\n  one:\n    runs-on: x\n    steps:\n      - { uses: actions/checkout@v4, with: { lfs: true } }\n      \
                - run: 'echo \"say: $(cat large.bin) $(git status --porcelain 2>/dev/null | wc -l)\"'\n      \
                - { uses: actions/checkout@v4, with: { path: without } }\n      - run: 'echo \"say: $(head -c 7 without/large.bin)\"'\n";
    let ran = desk.run(text, &[]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["large content 0", "version"], "{}", ran.log);
    // What a job adds is pushed to the same server, and is fetched from it by git-lfs.
    let pushed = format!(
        "{text}      - run: |\n          export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@example.org GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@example.org\n          \
         echo made in the job > made.bin && git add made.bin && git commit -q -m made && git branch made && git push -q origin HEAD:refs/heads/made\n          \
         rm -rf .git/lfs/objects && git checkout -q HEAD~1 && git lfs fetch origin made && git checkout -q made && echo \"say: $(cat made.bin)\"\n"
    );
    let ran = desk.run(&pushed, &[]);
    ran.must_succeed();
    assert_eq!(ran.said(), ["large content 0", "version", "made in the job"], "{}", ran.log);
    let programs = tempfile::tempdir().unwrap();
    let Some(sshd) = without_git(programs.path()) else { return };
    let way = way(&sshd);
    let ran = desk.run(text, &way.iter().map(String::as_str).collect::<Vec<_>>());
    ran.must_succeed();
    assert_eq!(ran.said(), ["large content 0", "version"], "{}", ran.log);
}

#[test]
fn an_ssh_key_fetches_what_is_not_here() {
    let desk = Desk::new();
    let elsewhere = desk.path("elsewhere");
    // A server of repositories, at a port of its own.
    let forced = format!("ForceCommand cd '{}' && exec sh -c \"$SSH_ORIGINAL_COMMAND\"", elsewhere.display());
    let programs = tempfile::tempdir().unwrap();
    let path = format!("SetEnv PATH={}:/usr/local/bin:/usr/bin:/bin", programs.path().display());
    let (Some(forge), Some(sshd)) = (Sshd::start_with(&forced), Sshd::start_with(&path)) else { return };
    let bare = elsewhere.join("o/private.git");
    std::fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare", "-b", "main"]);
    let work = desk.path("private");
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "-q", "-b", "main"]);
    write(&work.join("file"), "private\n");
    commit(&work, "private");
    git(&work, &["push", "-q", bare.to_str().unwrap(), "main"]);
    // Stands for a resolver that knows the server's name.
    let ssh = programs.path().join("ssh");
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -p {} -o HostKeyAlias=forge.example -o HostName=127.0.0.1 \"$@\"\n",
        forge.port()
    );
    write(&ssh, &script);
    assert!(std::process::Command::new("chmod").arg("+x").arg(&ssh).status().unwrap().success());
    let known = std::fs::read_to_string(forge.path("known_hosts")).unwrap();
    let (_, known) = known.trim().split_once(' ').unwrap();
    let key = std::fs::read_to_string(forge.path("id")).unwrap();
    let text = format!(
        "on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n        with:\n          \
         repository: o/private\n          github-server-url: https://forge.example\n          ssh-user: {}\n          ssh-key: ${{{{ secrets.KEY }}}}\n          \
         ssh-known-hosts: forge.example {known}\n      - run: |\n          \
         echo \"say: $(cat file) $(git branch --show-current)\"\n          \
         git config core.sshCommand | grep -c StrictHostKeyChecking=yes | sed 's/^/say: /'\n          \
         git fetch -q && echo 'say: again'\n",
        crate::support::sshd::user(),
    );
    let mut way = way(&sshd);
    way.extend(["--secret".to_owned(), format!("KEY={key}")]);
    let way: Vec<&str> = way.iter().map(String::as_str).collect();
    let ran = desk.run(&text, &way);
    ran.must_succeed();
    assert_eq!(ran.said(), ["private main", "1", "again"], "{}", ran.log);
    assert!(!ran.log.contains(key.lines().nth(1).unwrap()), "the key is in the log: {}", ran.log);
    // Another key than the one that was named is refused.
    let other = text.replace(known, std::fs::read_to_string(sshd.path("host.pub")).unwrap().trim());
    let ran = desk.run(&other, &way);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert!(ran.log.contains("Host key verification failed"), "{}", ran.log);
}
