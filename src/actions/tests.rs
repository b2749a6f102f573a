use std::path::{Path, PathBuf};

use super::*;

/// A bare repository with one action per version.
fn publish(path: &Path, versions: &[(&str, &[(&str, &str)])]) {
    let work = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git")
            .current_dir(work.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    for (tag, files) in versions {
        for (file, text) in *files {
            let file = work.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", tag]);
        git(&["tag", tag]);
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    git(&["clone", "--quiet", "--bare", ".", path.to_str().unwrap()]);
}

fn settings(directory: &Path) -> Settings {
    Settings {
        mirror: Some(directory.join("mirror")),
        url: Some(format!("file://{}/remote/{{owner}}/{{name}}.git", directory.display())),
        credentials: Credentials::None,
        cache: directory.join("cache"),
        allow: Vec::new(),
        lock_file: Some(directory.join("towline.lock")),
    }
}

fn reference(owner: &str, name: &str, path: &str, reference: &str) -> ActionReference {
    let text = |text: &str| text.to_owned();
    ActionReference::Repository { owner: text(owner), name: text(name), path: text(path), reference: text(reference) }
}

fn names(tar: PathBuf) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[tokio::test]
async fn actions_are_found_in_the_directory_first_and_then_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    publish(
        &at.join("mirror/Acme/hello.git"),
        &[("v1", &[("action.yml", "name: one"), ("sub/action.yaml", "name: sub")])],
    );
    publish(
        &at.join("remote/acme/far.git"),
        &[("v1", &[("action.yml", "name: far")]), ("v2", &[("Dockerfile", "FROM x")])],
    );
    let sources = Sources::new(settings(at)).unwrap();

    let near = sources.resolve(&reference("acme", "Hello", "", "v1")).await.unwrap();
    assert_eq!((near.manifest.path.as_str(), near.manifest.text.as_str()), ("action.yml", "name: one"));
    let sub = sources.resolve(&reference("acme", "hello", "sub", &near.commit)).await.unwrap();
    assert_eq!((sub.manifest.path.as_str(), sub.commit.as_str()), ("sub/action.yaml", near.commit.as_str()));
    assert_eq!(names(sources.archive(&sub).await.unwrap()), ["action.yml", "sub/action.yaml"]);

    let far = sources.resolve(&reference("acme", "far", "", "main")).await.unwrap();
    assert_eq!(names(sources.archive(&far).await.unwrap()), ["Dockerfile", "action.yml"]);
    // The network goes away: what is here is used.
    std::fs::rename(at.join("remote"), at.join("gone")).unwrap();
    assert_eq!(sources.resolve(&reference("acme", "far", "", "main")).await.unwrap().commit, far.commit);
    assert_eq!(sources.resolve(&reference("acme", "far", "", &far.commit)).await.unwrap().tree, far.tree);
}

#[tokio::test]
async fn what_cannot_be_had_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    publish(&at.join("mirror/acme/hello.git"), &[("v1", &[("README", "no action")])]);
    let sources = Sources::new(settings(at)).unwrap();
    let check = async |reference: ActionReference, expect: &str| {
        let message = sources.resolve(&reference).await.unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    check(reference("acme", "none", "", "v1"), "Unable to resolve action `acme/none@v1`, repository not found").await;
    check(reference("acme", "none", "", "v1"), "not in file:///").await;
    check(reference("acme", "..", "", "v1"), "repository not found").await;
    check(reference("acme", "hello", "", "v9"), "unable to find version `v9`").await;
    check(reference("acme", "hello", "", "v1~0"), "unable to find version").await;
    check(reference("acme", "hello", "", &"0".repeat(40)), "unable to find version").await;
    check(reference("acme", "hello", "", "v1"), "Can't find 'action.yml', 'action.yaml' or 'Dockerfile'").await;
    check(ActionReference::Image("alpine".to_owned()), "is not an action of a repository").await;

    let nowhere = Sources::new(Settings { mirror: None, url: None, ..settings(at) }).unwrap();
    let message = nowhere.resolve(&reference("acme", "hello", "", "v1")).await.unwrap_err().to_string();
    assert!(message.contains("`[actions]`"), "{message}");
}

#[tokio::test]
async fn only_allowed_actions_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    publish(&at.join("mirror/acme/hello.git"), &[("v1", &[("action.yml", "name: one")])]);
    let with = |allow: &[&str]| {
        let allow = allow.iter().map(|entry| (*entry).to_owned()).collect();
        Sources::new(Settings { allow, ..settings(at) }).unwrap()
    };
    let hello = reference("acme", "hello", "", "v1");
    for allow in [["acme", "x"], ["ACME/*", "x"], ["Acme/Hello", "x"]] {
        assert!(with(&allow).resolve(&hello).await.is_ok(), "{allow:?}");
    }
    let message = with(&["actions", "acme/other"]).resolve(&hello).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "The action acme/hello@v1 is not allowed: only actions of actions, acme/other may be used here"
    );
}

#[tokio::test]
async fn pins_hold_when_a_tag_moves() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let repository = at.join("mirror/acme/hello.git");
    publish(&repository, &[("v1", &[("action.yml", "name: one")]), ("v2", &[("action.yml", "name: two")])]);
    let hello = reference("acme", "hello", "", "v1");
    let first = Sources::new(settings(at)).unwrap().resolve(&hello).await.unwrap();
    let mut lock = LockFile::default();
    lock.set(&first);
    lock.set(&first);
    assert_eq!(LockFile::parse(&lock.to_text()), Ok(lock.clone()));
    std::fs::write(at.join("towline.lock"), lock.to_text()).unwrap();

    let two = Repository::at(&repository).resolve("refs/tags/v2").await.unwrap().unwrap();
    Repository::at(&repository).update_ref("refs/tags/v1", &two).await.unwrap();
    let pinned = Sources::new(settings(at)).unwrap().resolve(&hello).await.unwrap();
    assert_eq!(pinned.manifest.text, "name: one");

    lock.pins[0].tree = Some("0".repeat(40));
    std::fs::write(at.join("towline.lock"), lock.to_text()).unwrap();
    let message = Sources::new(settings(at)).unwrap().resolve(&hello).await.unwrap_err().to_string();
    assert!(message.contains("is pinned to tree 0000"), "{message}");
    std::fs::write(at.join("towline.lock"), "[other]").unwrap();
    assert!(Sources::new(settings(at)).unwrap_err().to_string().contains("unknown key `other`"));
}
