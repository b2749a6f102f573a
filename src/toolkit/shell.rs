//! How a script is run: the shells that `shell:` may name, and their own ways (H1–H4).
//!
//! Pure: no I/O, no clock, no async.

/// A shell, ready to be given a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// The program: a name to be looked up in `PATH`, or a path.
    pub program: String,
    /// What follows it, with `{0}` for the script's path.
    pub arguments: String,
    /// Of the script's file, with the dot; empty for unknown shells.
    pub extension: &'static str,
    /// Put before the script.
    prefix: &'static str,
    /// Put behind the script.
    suffix: &'static str,
}

/// What `shell:` says when it cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid shell option. Shell must be a valid built-in (bash, sh, cmd, powershell, pwsh) or a format string containing '{{0}}'"
)]
pub struct InvalidShell;

const POWERSHELL_PREFIX: &str = "$ErrorActionPreference = 'stop'\n";
const POWERSHELL_SUFFIX: &str = "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }";

/// Chooses the shell. Without `shell:` it is `bash -e` where there is a bash, else `sh -e`: a container always counts as
/// having none (H1). `has_bash` is asked of the host.
///
/// # Errors
/// When the text is no shell GitHub knows and has no `{0}` (H4).
pub fn resolve(shell: Option<&str>, has_bash: bool) -> Result<Shell, InvalidShell> {
    let Some(text) = shell.filter(|text| !text.is_empty()) else {
        let program = if has_bash { "bash" } else { "sh" };
        return Ok(Shell { program: program.to_owned(), ..known("sh", "-e {0}") });
    };
    let (program, arguments) = text.split_once(' ').unwrap_or((text, ""));
    let arguments = match arguments.trim_start() {
        "" => default_arguments(program),
        given => given,
    };
    if !arguments.contains("{0}") {
        return Err(InvalidShell);
    }
    Ok(known(program, arguments))
}

impl Shell {
    /// The script as it is written to its file.
    #[must_use]
    pub fn script(&self, script: &str) -> String {
        format!("{}{script}{}", self.prefix, self.suffix)
    }

    /// The words of the command that runs the script at `path`, the program first.
    #[must_use]
    pub fn argv(&self, path: &str) -> Vec<String> {
        let mut words = vec![self.program.clone()];
        words.extend(split(&self.arguments).into_iter().map(|word| word.replace("{0}", path)));
        words
    }

    /// What the log says behind `shell: ` (H7). `program` is where it was found, if it was looked for.
    #[must_use]
    pub fn shown(&self, program: Option<&str>) -> String {
        format!("{} {}", program.unwrap_or(&self.program), self.arguments)
    }
}

fn default_arguments(program: &str) -> &'static str {
    match program.to_ascii_lowercase().as_str() {
        "bash" => "--noprofile --norc -e -o pipefail {0}",
        "sh" => "-e {0}",
        "python" => "{0}",
        "pwsh" | "powershell" => "-command \". '{0}'\"",
        "cmd" => "/D /E:ON /V:OFF /S /C \"CALL \"{0}\"\"",
        _ => "",
    }
}

fn known(program: &str, arguments: &str) -> Shell {
    let extension = match program.to_ascii_lowercase().as_str() {
        "bash" | "sh" => ".sh",
        "python" => ".py",
        "pwsh" | "powershell" => ".ps1",
        "cmd" => ".cmd",
        _ => "",
    };
    // As in GitHub's runner, a script is only completed for the exact names.
    let (prefix, suffix) = match program {
        "pwsh" | "powershell" => (POWERSHELL_PREFIX, POWERSHELL_SUFFIX),
        "cmd" => ("@echo off\n", ""),
        _ => ("", ""),
    };
    Shell { program: program.to_owned(), arguments: arguments.to_owned(), extension, prefix, suffix }
}

/// Splits arguments as GitHub's runner does on every system: at space, where double quotes keep words together and
/// `\"` is a quote. Single quotes are plain characters.
fn split(arguments: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = arguments.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'"') => {
                characters.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_those_of_github() {
        let check = |shell: Option<&str>, has_bash: bool, argv: &[&str], extension: &str| {
            let resolved = resolve(shell, has_bash).unwrap();
            assert_eq!(resolved.argv("/t/s"), argv, "{shell:?}");
            assert_eq!(resolved.extension, extension, "{shell:?}");
        };
        check(None, true, &["bash", "-e", "/t/s"], ".sh");
        check(None, false, &["sh", "-e", "/t/s"], ".sh");
        check(Some(""), true, &["bash", "-e", "/t/s"], ".sh");
        check(Some("bash"), false, &["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "/t/s"], ".sh");
        check(Some("sh"), true, &["sh", "-e", "/t/s"], ".sh");
        check(Some("python"), true, &["python", "/t/s"], ".py");
        check(Some("pwsh"), true, &["pwsh", "-command", ". '/t/s'"], ".ps1");
        check(Some("perl -w  {0}"), true, &["perl", "-w", "/t/s"], "");
        check(Some("bash -c \"x 'y' \\\"{0}\\\"\""), true, &["bash", "-c", "x 'y' \"/t/s\""], ".sh");
        assert_eq!(resolve(Some("fish"), true), Err(InvalidShell));
        assert_eq!(resolve(Some("bash -e"), true), Err(InvalidShell));
    }

    #[test]
    fn scripts_of_some_shells_are_completed() {
        assert_eq!(resolve(None, true).unwrap().script("a\n"), "a\n");
        let pwsh = resolve(Some("pwsh"), true).unwrap().script("a");
        assert!(pwsh.starts_with("$ErrorActionPreference = 'stop'\na\nif ((Test-Path"), "{pwsh}");
        assert_eq!(resolve(None, true).unwrap().shown(Some("/usr/bin/bash")), "/usr/bin/bash -e {0}");
    }
}
