use std::path::Path;
use std::process::Command as Process;

use super::*;

/// Runs git as a person would, in a directory.
fn run(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Process::new("git");
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    let output = command
        .current_dir(directory)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@lan", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn commit(directory: &Path, files: &[(&str, &str)], message: &str) -> String {
    for (path, text) in files {
        write(directory, path, text);
    }
    run(directory, &["add", "-A"]);
    run(directory, &["commit", "-q", "--allow-empty", "-m", message]);
    run(directory, &["rev-parse", "HEAD"])
}

fn repository() -> (tempfile::TempDir, Repository) {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), &["init", "-q"]);
    let repository = Repository::at(directory.path().join(".git"));
    (directory, repository)
}

fn pushed(old: &str, new: &str, name: &str) -> PushedRef {
    PushedRef { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() }
}

#[tokio::test]
async fn objects_are_read_over_one_pipe() {
    let (directory, repository) = repository();
    let first = commit(
        directory.path(),
        &[(".github/workflows/ci.yml", "on: push\n"), (".github/workflows/README.md", "no"), ("a b/ü", "x")],
        "first\n\nbody",
    );
    let mut objects = repository.objects().unwrap();
    let info = objects.commit("HEAD").await.unwrap().unwrap();
    assert_eq!((info.id.as_str(), info.subject(), info.message.as_str()), (first.as_str(), "first", "first\n\nbody"));
    assert_eq!((info.author.name.as_str(), info.author.email.as_str()), ("Ada", "ada@lan"));
    let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names(objects.directory(&first, "").await.unwrap().unwrap()), [".github", "a b"]);
    assert_eq!(objects.file(&first, "a b/ü").await.unwrap().as_deref(), Some(&b"x"[..]));
    for missing in ["nothing", "a b", "with\nline", "a b/ü/deeper", " missing"] {
        assert_eq!(objects.file(&first, missing).await.unwrap(), None, "{missing:?}");
    }
    assert_eq!(objects.commit("no such name").await.unwrap(), None);
    let order = [".towline/workflows".to_owned(), ".github/workflows".to_owned()];
    let files = objects.workflows(&first, &order).await.unwrap();
    assert_eq!(files, [TextFile { path: ".github/workflows/ci.yml".into(), text: "on: push\n".into() }]);
    let second = commit(directory.path(), &[(".towline/workflows/own.yaml", "on: push")], "second");
    let files = objects.workflows(&second, &order).await.unwrap();
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), [".towline/workflows/own.yaml"]);
    objects.close().await;
}

#[tokio::test]
async fn names_that_mean_nothing_are_none() {
    let (directory, repository) = repository();
    assert_eq!(repository.resolve("HEAD").await.unwrap(), None);
    assert_eq!(repository.head_branch().await.unwrap().as_deref(), Some("main"));
    let first = commit(directory.path(), &[], "first");
    assert_eq!(repository.resolve("main").await.unwrap(), Some(first.clone()));
    for name in ["nothing", "--help", "main~5", "", NULL_ID, "deadbeef"] {
        assert_eq!(repository.resolve(name).await.unwrap(), None, "{name}");
    }
    run(directory.path(), &["checkout", "-q", "--detach"]);
    assert_eq!(repository.head_branch().await.unwrap(), None);
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(matches!(Repository::discover(elsewhere.path()).await, Err(Error::NotARepository { .. })));
}

#[tokio::test]
async fn changes_follow_the_kind_of_push() {
    let (directory, repository) = repository();
    let path = directory.path();
    let first = commit(path, &[("a", "1"), ("b", "1")], "first");
    let second = commit(path, &[("a", "2")], "second");
    let files = |changes: Changes| match changes {
        Changes::Files(files) => files,
        Changes::TooMany => panic!("too many"),
    };
    let main = "refs/heads/main";
    let of =
        async |push: &PushedRef, others: &[PushedRef]| files(repository.changes_of_push(push, others).await.unwrap());
    assert_eq!(of(&pushed(&first, &second, main), &[]).await, ["a"]);
    // Back, as a force push does.
    assert_eq!(of(&pushed(&second, &first, main), &[]).await, ["a"]);
    // The first push of all: everything is new.
    assert_eq!(of(&pushed(NULL_ID, &second, main), &[]).await, ["a", "b"]);
    run(path, &["checkout", "-q", "-b", "feature", &first]);
    commit(path, &[("c", "1")], "third");
    let fourth = commit(path, &[("d", "1")], "fourth");
    // A new branch: since it left what was there.
    let feature = pushed(NULL_ID, &fourth, "refs/heads/feature");
    assert_eq!(of(&feature, &[]).await, ["c", "d"]);
    // A new branch at a commit that was there already.
    run(path, &["branch", "same", &second]);
    assert!(of(&pushed(NULL_ID, &second, "refs/heads/same"), &[]).await.is_empty());
    // Two new branches in one push: neither hides the other's commits.
    run(path, &["branch", "twin", &fourth]);
    let twin = pushed(NULL_ID, &fourth, "refs/heads/twin");
    assert_eq!(of(&twin, &[feature.clone(), twin.clone()]).await, ["c", "d"]);
    assert!(of(&pushed(&fourth, NULL_ID, "refs/heads/feature"), &[]).await.is_empty());
    // Three-dot: what main did since is not the pull request's.
    assert_eq!(files(repository.changes_of_pull_request(&second, &fourth).await.unwrap()), ["c", "d"]);
    let log = repository.log_of_push(&pushed(&first, &fourth, "refs/heads/feature"), &[], 20).await.unwrap();
    let told: Vec<_> = log.iter().map(|one| (one.commit.message.as_str(), one.added.as_slice())).collect();
    assert_eq!(told, [("third", &["c".to_owned()][..]), ("fourth", &["d".to_owned()][..])]);
    assert_eq!(log[0].commit.parents, std::slice::from_ref(&first));
    assert!(repository.is_ancestor(&first, &fourth).await.unwrap());
    assert!(!repository.is_ancestor(&second, &fourth).await.unwrap());
    // A rename counts under both names.
    run(path, &["mv", "d", "e"]);
    let fifth = commit(path, &[], "fifth");
    assert_eq!(of(&pushed(&fourth, &fifth, main), &[]).await, ["d", "e"]);
}

#[tokio::test]
async fn only_the_first_files_are_tested() {
    let (directory, repository) = repository();
    let names: Vec<String> = (0..310).map(|number| format!("f{number:03}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let id = commit(directory.path(), &files, "many");
    let push = pushed(NULL_ID, &id, "refs/heads/main");
    let Changes::Files(found) = repository.changes_of_push(&push, &[]).await.unwrap() else { panic!("too many") };
    assert_eq!((found.len(), found.last().map(String::as_str)), (TESTED_FILES, Some("f299")));
}

#[tokio::test]
async fn too_many_commits_let_everything_through() {
    let (directory, repository) = repository();
    let mut stream = String::new();
    for number in 0..1002 {
        stream.push_str(&format!("commit refs/heads/main\ncommitter A <a@b> {number} +0000\ndata 1\nx\n"));
    }
    let input = directory.path().join("stream");
    std::fs::write(&input, stream).unwrap();
    let status = Process::new("git")
        .current_dir(directory.path())
        .args(["fast-import", "--quiet"])
        .stdin(std::fs::File::open(&input).unwrap())
        .status();
    assert!(status.unwrap().success());
    let tip = run(directory.path(), &["rev-parse", "main"]);
    let root = run(directory.path(), &["rev-list", "--max-parents=0", "main"]);
    let changes = repository.changes_of_push(&pushed(&root, &tip, "refs/heads/main"), &[]).await.unwrap();
    assert_eq!(changes, Changes::TooMany);
    assert_eq!(repository.changes_of_pull_request(&root, &tip).await.unwrap(), Changes::TooMany);
}

#[tokio::test]
async fn a_snapshot_has_what_is_not_ignored_and_writes_nothing() {
    let (directory, repository) = repository();
    let path = directory.path();
    let head = commit(path, &[("kept", "1"), ("changed", "1"), ("gone", "1"), (".gitignore", "*.log\n")], "first");
    write(path, "changed", "2");
    write(path, "new/file", "1");
    write(path, "noise.log", "1");
    std::fs::remove_file(path.join("gone")).unwrap();
    let state = |path: &Path| (run(path, &["status", "--porcelain"]), run(path, &["count-objects", "-v"]));
    let before = state(path);
    let into = tempfile::tempdir().unwrap();
    let taken = snapshot(&path.join("new"), &into.path().join("s.git")).await.unwrap();
    assert_eq!(state(path), before);
    assert_eq!((taken.head.as_deref(), taken.head_ref.as_deref()), (Some(head.as_str()), Some("refs/heads/main")));
    let bare = taken.repository.git_dir().to_owned();
    let list = |commit: &str| run(&bare, &["ls-tree", "-r", "--name-only", commit]);
    assert_eq!(list(&taken.commit), ".gitignore\nchanged\nkept\nnew/file");
    assert_eq!(run(&bare, &["rev-parse", "refs/heads/main"]), head);
    assert_eq!(run(&bare, &["log", "--format=%H", "-1", &format!("{}^", taken.commit)]), head);
    assert_eq!(repository.resolve("refs/towline/snapshot").await.unwrap(), None);
    // Clean again: HEAD itself.
    run(path, &["add", "-A"]);
    let clean = commit(path, &[], "second");
    let again = snapshot(path, &into.path().join("t.git")).await.unwrap();
    assert_eq!((again.commit.as_str(), again.head.as_deref()), (clean.as_str(), Some(clean.as_str())));
}

#[tokio::test]
async fn a_snapshot_before_the_first_commit_and_of_a_plain_directory() {
    let (directory, _) = repository();
    write(directory.path(), "file", "1");
    let into = tempfile::tempdir().unwrap();
    let taken = snapshot(directory.path(), &into.path().join("s.git")).await.unwrap();
    assert_eq!(taken.head, None);
    assert_eq!(run(taken.repository.git_dir(), &["ls-tree", "--name-only", &taken.commit]), "file");

    let plain = tempfile::tempdir().unwrap();
    write(plain.path(), "file", "1");
    let store = into.path().join("p.git");
    let first = snapshot_directory(plain.path(), &store).await.unwrap();
    let same = snapshot_directory(plain.path(), &store).await.unwrap();
    assert_eq!(first.commit, same.commit);
    write(plain.path(), "file", "22");
    let changed = snapshot_directory(plain.path(), &store).await.unwrap();
    assert_eq!(changed.head, Some(first.commit));
}

#[tokio::test]
async fn a_mirror_follows_and_prunes() {
    let (directory, _) = repository();
    let path = directory.path();
    let first = commit(path, &[("a", "1")], "first");
    run(path, &["branch", "old"]);
    run(path, &["tag", "-a", "v1", "-m", "one"]);
    let into = tempfile::tempdir().unwrap();
    let mirror = into.path().join("owner/name.git");
    let url = path.to_str().unwrap();
    let fetch = || fetch_mirror(&mirror, url, &Credentials::None, &[]);
    let (one, other) = tokio::join!(fetch(), fetch());
    let repository = one.and(other).unwrap();
    assert_eq!(repository.resolve("refs/heads/old").await.unwrap(), Some(first.clone()));
    let refs = ls_remote(url, &Credentials::None).await.unwrap();
    let names: Vec<&str> = refs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["HEAD", "refs/heads/main", "refs/heads/old", "refs/tags/v1"]);
    assert!(refs.iter().all(|one| one.id == first), "the tag is peeled: {refs:?}");
    run(path, &["branch", "-D", "old"]);
    let second = commit(path, &[("a", "2")], "second");
    fetch().await.unwrap();
    assert_eq!(repository.resolve("refs/heads/old").await.unwrap(), None);
    assert_eq!(repository.resolve("main").await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_mirror_of_many_fetches_is_packed_and_loses_nothing() {
    let (directory, _) = repository();
    let path = directory.path();
    let into = tempfile::tempdir().unwrap();
    let mirror = into.path().join("owner/name.git");
    let packs = || {
        let files = std::fs::read_dir(mirror.join("objects/pack")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|name| name == "pack")).count()
    };
    let url = path.to_str().unwrap().to_owned();
    let mut commits = vec![commit(path, &[("a", "first")], "first")];
    let mut repository = fetch_mirror(&mirror, &url, &Credentials::None, &[]).await.unwrap();
    // Else so small a fetch leaves no pack.
    repository.configure("fetch.unpackLimit", "1").await.unwrap();
    for number in 0..42 {
        commits.push(commit(path, &[("a", &number.to_string())], "next"));
        repository = fetch_mirror(&mirror, &url, &Credentials::None, &[]).await.unwrap();
        if number == 5 {
            tidy_mirror(&mirror).await.unwrap();
            assert!(packs() > 2, "few are left alone");
        }
    }
    // One that no branch leads to any more: a run may still be of it.
    run(path, &["reset", "-q", "--hard", "HEAD~1"]);
    fetch_mirror(&mirror, &url, &Credentials::None, &[]).await.unwrap();
    assert!(packs() > 40, "{}", packs());
    tidy_mirror(&mirror).await.unwrap();
    assert!(packs() < 5, "{}", packs());
    for commit in commits {
        assert_eq!(repository.resolve(&commit).await.unwrap(), Some(commit));
    }
}

#[tokio::test]
async fn a_refused_fetch_does_not_tell_the_password() {
    let into = tempfile::tempdir().unwrap();
    let credentials = Credentials::Basic { user: "u".into(), password: "hunter2".to_owned().into() };
    let url = "http://ada:hunter2@127.0.0.1:1/x.git";
    let error = fetch_mirror(&into.path().join("m.git"), url, &credentials, &[]).await.unwrap_err();
    assert!(error.is_transient());
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn an_archive_takes_files_as_they_are() {
    let (directory, repository) = repository();
    let path = directory.path();
    write(path, ".gitattributes", "secret export-ignore\nsubst export-subst\n* text=auto eol=crlf\n");
    std::os::unix::fs::symlink("subst", path.join("link")).unwrap();
    let long = format!("{}/file", "d".repeat(120));
    let id = commit(path, &[("secret", "s\n"), ("subst", "$Format:%H$\n"), (&long, "")], "first");
    let bytes = archive(&repository, &id, Vec::new()).await.unwrap();
    let mut found = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        let link = entry.link_name().unwrap().map(|link| format!("-> {}", link.display()));
        found.insert(name, link.unwrap_or(text));
    }
    assert_eq!(found["secret"], "s\n");
    assert_eq!(found["subst"], "$Format:%H$\n");
    assert_eq!(found["link"], "-> subst");
    assert_eq!(found[&long], "");
}

#[tokio::test]
async fn a_tree_that_leads_out_of_itself_is_no_archive() {
    let (directory, repository) = repository();
    let path = directory.path();
    commit(path, &[("evil", "x")], "first");
    let object = |kind: &str, content: &[u8]| {
        let mut git = std::process::Command::new("git")
            .current_dir(path)
            .args(["hash-object", "-w", "--stdin", "--literally", "-t", kind])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut git.stdin.take().unwrap(), content).unwrap();
        String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let tree = |entries: &[(&str, &str)]| {
        let mut content = Vec::new();
        for (name, id) in entries {
            content.extend(name.as_bytes());
            content.push(0);
            content.extend((0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()));
        }
        object("tree", &content)
    };
    let (file, link) = (object("blob", b"x"), object("blob", b"/tmp"));
    let below = tree(&[("100644 evil", &file)]);
    for entries in [
        // A link and, by the same name, a directory.
        vec![("120000 a", link.as_str()), ("40000 a", &below)],
        vec![("40000 ..", below.as_str())],
        vec![("100644 ../evil", file.as_str())],
        vec![("100644 /evil", file.as_str())],
    ] {
        let error = archive(&repository, &tree(&entries), Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("leads out of itself"), "{entries:?}: {error}");
    }
}

#[tokio::test]
async fn a_store_holds_one_commit_with_its_depth() {
    let (directory, repository) = repository();
    let path = directory.path();
    commit(path, &[("a", "1")], "first");
    let second = commit(path, &[("a", "2")], "second");
    commit(path, &[("a", "3")], "third");
    let into = tempfile::tempdir().unwrap();
    // As many commits as wanted, and no file twice where the other side has it.
    for (depth, commits) in [(1, "1"), (2, "2"), (0, "2")] {
        let store = Repository::init_bare(&into.path().join(depth.to_string()), "main").await.unwrap();
        let tips = [second.clone()];
        let cut = repository.cut(&tips, depth).await.unwrap();
        let place = store.git_dir().join("objects/pack");
        std::fs::create_dir_all(&place).unwrap();
        let packed = repository.pack(&tips, &cut, &[], &place).await.unwrap();
        assert_eq!(packed.len(), 2);
        std::fs::write(store.git_dir().join("shallow"), cut.iter().map(|id| format!("{id}\n")).collect::<String>())
            .unwrap();
        store.update_ref("refs/heads/main", &second).await.unwrap();
        assert_eq!(run(store.git_dir(), &["rev-list", "--count", "main"]), commits);
        run(store.git_dir(), &["fsck", "--strict"]);
        assert!(repository.pack(&tips, &cut, &tips, into.path()).await.unwrap().is_empty());
        // Memory is another file system: there is no renaming from one to the other.
        if let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") {
            assert!(!repository.pack(&tips, &cut, &[], elsewhere.path()).await.unwrap().is_empty());
        }
    }
    let file = into.path().join("b");
    bundle(&repository, &["refs/heads/main"], &[&second], &file).await.unwrap();
    assert!(run(path, &["bundle", "list-heads", file.to_str().unwrap()]).ends_with(" refs/heads/main"));
}

#[tokio::test]
async fn a_cut_off_history_brings_only_what_differs() {
    let (directory, repository) = repository();
    let files: Vec<(String, String)> = (0..40).map(|n| (format!("d{}/f{n}", n % 4), format!("{n}\n"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    commit(directory.path(), &files, "first");
    let there = commit(directory.path(), &[("d1/f1", "one\n")], "there");
    let wanted = commit(directory.path(), &[("d2/f2", "two\n")], "wanted");
    let into = tempfile::tempdir().unwrap();
    let objects = |files: &[std::path::PathBuf]| {
        let index = files.iter().find(|file| file.extension().is_some_and(|kind| kind == "idx")).unwrap();
        let list = run(directory.path(), &["verify-pack", "-v", index.to_str().unwrap()]);
        list.lines().filter(|line| [" commit ", " tree ", " blob "].iter().any(|kind| line.contains(kind))).count()
    };
    let cut = [wanted.clone()];
    let all = repository.pack(&cut, &cut, &[], into.path()).await.unwrap();
    // A commit, its tree, four directories, and files.
    assert_eq!(objects(&all), 1 + 1 + 4 + 40);
    let rest = repository.pack(&cut, &cut, &[there], into.path()).await.unwrap();
    assert_eq!(objects(&rest), 1 + 1 + 1 + 1);
}
