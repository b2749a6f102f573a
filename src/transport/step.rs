//! A step's start file: what the shell that waits for the step reads to become it.
//!
//! One compound command, so that a file that was cut short is a syntax error and starts nothing.

use std::fmt::Write as _;

use super::{StepFile, StepRequest, TransportError};

/// The most that may travel inside the start file; more is put beside it first.
const INLINE: usize = 64 * 1024;

/// Text as one word of the shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether the file's content can be a word of any shell: text without control characters that shells use themselves.
pub(super) fn fits_inline(file: &StepFile) -> bool {
    file.content.len() <= INLINE
        && std::str::from_utf8(&file.content).is_ok()
        && !file.content.iter().any(|&byte| byte == 0x7f || (byte < 0x20 && !matches!(byte, b'\n' | b'\t')))
}

/// Whether a shell can export the name.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The start file. `steps` is the job's directory of steps; files that do not fit inline are expected to be in place.
pub(super) fn start_file(steps: &str, request: &StepRequest, tracking_id: &str) -> Result<Vec<u8>, TransportError> {
    let number = request.number;
    let prefix = quoted(&format!("{steps}/{number}."));
    let Some(program) = request.argv.first() else {
        return Err(TransportError::Invalid(format!("step {number} has no program")));
    };
    let texts = request.argv.iter().chain(request.env.iter().flat_map(|(name, value)| [name, value]));
    for text in texts.chain([&request.cwd]).chain(request.files.iter().map(|file| &file.path)) {
        if text.contains('\0') {
            return Err(TransportError::Invalid(format!("step {number}: a NUL byte in an argument or a variable")));
        }
    }
    let mut text = String::from("{\n{\n");
    // Read as a whole before the first command of it runs: the environment is on no disk while the step is.
    let _ = writeln!(text, "p={prefix}\n[ -z \"${{from-}}\" ] || true >\"${{p}}start.$from\"");
    if let Some(contained) = &request.contained {
        // Links to where the container sees them. Its user is another than ours, so the files are open to all who get there.
        let _ = writeln!(
            text,
            "f={files}\nmkdir -p \"$f\"\nfor s in env output path state summary artifacts; do rm -f \"$p$s\" \"$f/{number}.$s\"; \
             : >\"$f/{number}.$s\"; chmod 666 \"$f/{number}.$s\"; ln -s \"$f/{number}.$s\" \"$p$s\"; done\n\
             s=artifacts_list\nmv -f \"$p$s\" \"$f/{number}.$s\" || : >\"$f/{number}.$s\"\nchmod 644 \"$f/{number}.$s\"\n\
             ln -s \"$f/{number}.$s\" \"$p$s\"\nunset f s",
            files = quoted(&contained.files)
        );
    }
    text.push_str(
        "case ${KSH_VERSION-} in *MIRBSD*) w() { print -rn -- \"$1\"; } ;; *) w() { printf %s \"$1\"; } ;; esac\n",
    );
    for file in &request.files {
        let path = quoted(&file.path);
        if fits_inline(file) {
            let content = std::str::from_utf8(&file.content).expect("fits_inline looked");
            let failed = quoted(&format!("##[error]Cannot write {}.", file.path));
            let _ = writeln!(
                text,
                "w {} >{path} || {{ echo {failed}; echo >\"${{p}}unstarted\"; exit 126; }}",
                quoted(content)
            );
        }
        match (file.executable, &request.contained) {
            (true, None) => drop(writeln!(text, "chmod 700 {path}")),
            (true, Some(_)) => drop(writeln!(text, "chmod 755 {path}")),
            (false, None) => {}
            (false, Some(_)) => drop(writeln!(text, "chmod 644 {path}")),
        }
    }
    if let Some(signal) = request.contained.as_ref().and_then(|contained| contained.signal.as_ref()) {
        let _ = writeln!(text, "w {} >\"${{p}}signal\"", quoted(signal));
    }
    let cwd = quoted(&request.cwd);
    let path = request.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    let reason = format!(
        "if [ -d {cwd} ]; then w='Permission denied'; elif [ -e {cwd} ]; then w='Not a directory'; \
         else w='No such file or directory'; fi; PATH={path}; f=$(command -v {program}) || f={program}",
        path = quoted(path),
        program = quoted(program)
    );
    let _ = writeln!(
        text,
        "cd {cwd} || {{ {reason}; echo \"##[error]An error occurred trying to start process '$f' with working \
         directory '\"{cwd}\"'. $w\"; echo >\"${{p}}unstarted\"; exit 126; }}"
    );
    text.push_str("} 2>/dev/null\n");
    // Nothing of the supervisor's own environment is left.
    // Our own files are private; what a step makes is as open as on GitHub's runners.
    text.push_str("umask 022\nunset w HOME PWD OLDPWD SHLVL _ PATH\n");
    let (plain, odd): (Vec<_>, Vec<_>) = request.env.iter().partition(|(name, _)| is_identifier(name));
    for (name, value) in plain {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    if !request.env.iter().any(|(name, _)| name == "RUNNER_TRACKING_ID") {
        let _ = writeln!(text, "export RUNNER_TRACKING_ID={}", quoted(tracking_id));
    }
    let not_found = quoted(&format!("##[error]{program}: command not found"));
    // A function of the launcher's is no program.
    if is_identifier(program) {
        let _ = writeln!(text, "unset -f {program} 2>/dev/null");
    }
    let _ = writeln!(
        text,
        "command -v {} >/dev/null 2>&1 || {{ echo {not_found}; echo >\"${{p}}unstarted\"; exit 127; }}",
        quoted(program)
    );
    let words: Vec<String> = request.argv.iter().map(|word| quoted(word)).collect();
    let words = words.join(" ");
    if odd.is_empty() {
        let _ = writeln!(text, "unset p\nexec {words}");
    } else {
        text.push_str(&odd_names(&odd, &words));
    }
    text.push_str("}\n");
    Ok(text.into_bytes())
}

/// The files that go when the step has ended, with its number before each, as the assignment that comes with its request.
pub(super) fn temporaries(request: &StepRequest) -> String {
    let temporary = request.files.iter().filter(|file| file.temporary);
    let names: String = temporary.map(|file| format!("{} {}\n", request.number, file.path)).collect();
    format!("t={}\n", quoted(&names))
}

/// Variables that no shell can export, `INPUT_WHO-TO-GREET` among them, set by an interpreter from a file. Where there is none,
/// `env` does it: then they are arguments for the moment until it becomes the step.
fn odd_names(odd: &[&(String, String)], words: &str) -> String {
    let encode = |text: &str| text.replace('%', "%25").replace('\n', "%0A");
    let lines: String = odd.iter().map(|(name, value)| format!("{}={}\n", encode(name), encode(value))).collect();
    let arguments: Vec<String> = odd.iter().map(|(name, value)| quoted(&format!("{name}={value}"))).collect();
    let perl = quoted(
        "open F, '<', shift; while (<F>) { chomp; ($n, $v) = split /=/, $_, 2; for ($n, $v) { s/%0A/\\n/g; s/%25/%/g } $ENV{$n} = $v } \
         close F; exec { $ARGV[0] } @ARGV; exit 127",
    );
    let python = quoted(
        "import os, sys\nfor l in open(sys.argv[1], 'rb').read().split(b'\\n'):\n  if l:\n    n, v = [x.replace(b'%0A', \
         b'\\n').replace(b'%25', b'%') for x in l.split(b'=', 1)]\n    os.environb[n] = v\nos.execvp(sys.argv[2], sys.argv[2:])",
    );
    format!(
        "printf %s {} >\"${{p}}clean\"\nset -- \"${{p}}clean\" {words}\nunset p\n\
         if command -v perl >/dev/null 2>&1; then exec perl -e {perl} -- \"$@\"\n\
         elif command -v python3 >/dev/null 2>&1; then exec python3 -c {python} \"$@\"\n\
         else exec env {} {words}\nfi\n",
        quoted(&lines),
        arguments.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Spool;

    fn request() -> StepRequest {
        StepRequest {
            number: 1,
            argv: vec!["env".into()],
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("A".into(), "it's \"$HOME\" `x` \\ \u{201c}é\n%0A".into()),
                ("INPUT_WHO-TO-GREET".into(), "a\nb%".into()),
            ],
            cwd: "/".into(),
            files: Vec::new(),
            timeout: None,
            spool: Spool::Main,
            contained: None,
        }
    }

    #[test]
    fn every_value_arrives_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let steps = directory.path().to_str().expect("text");
        let file = start_file(steps, &request(), "github_1").expect("possible");
        let path = directory.path().join("start");
        std::fs::write(&path, &file).expect("written");
        let output = std::process::Command::new("/bin/sh").arg(&path).output().expect("sh runs");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("A=it's \"$HOME\" `x` \\ \u{201c}é\n%0A\n"), "{text}");
        assert!(text.contains("INPUT_WHO-TO-GREET=a\nb%\n"), "{text}");
    }

    #[test]
    fn a_start_file_cut_short_starts_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let steps = directory.path().to_str().expect("text");
        let mut request = request();
        request.argv = vec!["touch".into(), format!("{steps}/started")];
        let file = start_file(steps, &request, "github_1").expect("possible");
        let path = directory.path().join("start");
        for length in (0..file.len() - 2).step_by(7) {
            std::fs::write(&path, &file[..length]).expect("written");
            std::process::Command::new("/bin/sh").arg(&path).output().expect("sh runs");
            assert!(!directory.path().join("started").exists(), "cut at {length}");
        }
        std::fs::write(&path, &file).expect("written");
        std::process::Command::new("/bin/sh").arg(&path).output().expect("sh runs");
        assert!(directory.path().join("started").exists());
    }

    #[test]
    fn impossible_requests_are_refused() {
        let mut empty = request();
        empty.argv.clear();
        assert!(start_file("/s", &empty, "x").is_err());
        let mut nul = request();
        nul.env.push(("B".into(), "a\0b".into()));
        assert!(start_file("/s", &nul, "x").is_err());
    }
}
