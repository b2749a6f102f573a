//! README from an empty directory to `git push`, word for word, without a package: what a reader does is done, and what the
//! page shows is what he sees.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::sshd;

/// The blocks of a language in a section, in order.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    section.split(&begin).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

/// The daemon of the first terminal; gone with this value.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A shell as a reader has it, in his own home, with the program in his path.
fn shell(home: &Path, text: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_towline"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-e", "-c", text]).current_dir(home);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            shell.env_remove(name);
        }
    }
    shell.env("HOME", home).env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    for (name, place) in [("TOWLINE_STATE", "state"), ("TOWLINE_RUNTIME", "run"), ("TOWLINE_CONFIG", "towline.toml")] {
        shell.env(name, home.join(place));
    }
    shell
}

#[test]
fn an_empty_directory_becomes_a_push_with_its_live_log() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split_once("\n## From an empty directory to `git push`\n").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let (typed, shown) = (blocks(section, "sh"), blocks(section, "text"));
    assert!(typed.len() == 3 && shown.len() == 4, "{typed:?} {shown:?}");
    let home = tempfile::tempdir().unwrap();
    // Tests run beside each other, and not in the directories of the machine.
    let port = sshd::free_port().to_string();
    let here = |text: &str| {
        let state = home.path().join("state");
        text.replace("7443", &port).replace("/var/lib/towline", state.to_str().unwrap())
    };
    std::fs::write(home.path().join(".gitconfig"), "[user]\nname = Ada\nemail = ada@lan\n").unwrap();
    let serve = typed[0].lines().find(|line| line.starts_with("towline serve")).unwrap();
    let mut daemon = shell(home.path(), &format!("exec {}", here(serve)));
    let mut daemon = Terminal(daemon.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    let mut lines = BufReader::new(daemon.0.stderr.take().unwrap());
    while !said.contains("host local is up") {
        let before = said.len();
        lines.read_line(&mut said).unwrap();
        assert!(said.len() > before, "the daemon ended: {said}");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    for line in shown[0].lines().filter(|line| line.contains("https://") || line.contains("is up")) {
        let (_, words) = line.split_once("INFO  ").unwrap();
        let words = here(words.split(": Linux").next().unwrap());
        assert!(said.contains(&words), "'{words}' is not in\n{said}");
    }
    let run = |text: &str| {
        let output = shell(home.path(), &format!("exec 2>&1\n{}", here(text))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{said}");
        said
    };
    assert_eq!(run(&typed[1]), here(&shown[1]));
    let said = run(&typed[2]);
    for line in shown[2].lines().filter(|line| *line != "…") {
        let line = here(line);
        assert!(said.lines().any(|one| one.trim_end() == line), "'{line}' is not in\n{said}");
    }
    for part in shown[3].split("$ ").filter(|part| !part.is_empty()) {
        let (command, shown) = part.split_once('\n').unwrap();
        let said = run(command);
        let words = |text: &str| {
            // When it was, and how long it took, is of the day.
            let time = |word: &str| {
                let word = word.trim_matches(['(', ')']);
                word.ends_with('Z') || word.trim_end_matches(['m', 's']).chars().all(|digit| digit.is_ascii_digit())
            };
            text.split_whitespace().filter(|word| !time(word)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&said), words(&here(shown)), "{command}");
    }
}

/// The configurations that a page shows are none that the program refuses.
#[test]
fn configurations_on_the_pages_are_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for page in
        ["README.md", "docs/github.md", "docs/hosts.md", "docs/operations.md", "docs/security.md", "docs/install.md"]
    {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        for block in blocks(&text.replace("\n   ", "\n"), "toml") {
            let block = block.replace("OWNER/NAME", "owner/name");
            let file = towline::config::File { path: page.into(), text: block.clone() };
            let (config, diagnostics) = towline::config::parse(&[file]);
            let faults: Vec<String> =
                diagnostics.iter().map(|one| towline::diagnostic::text(one, Some(&block), false)).collect();
            assert!(config.is_some() && faults.is_empty(), "{page}\n{block}\n{}", faults.join("\n"));
            read += 1;
        }
    }
    assert!(read > 5, "{read}");
}
