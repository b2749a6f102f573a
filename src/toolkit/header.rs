//! What a step's log begins with (H7), line by line and still to be masked.
//!
//! Pure: no I/O, no clock, no async.

const SCRIPT_COLOUR: &str = "\x1b[36;1m";
const NO_COLOUR: &str = "\x1b[0m";

/// The first line of a script, as a step's name has it: `Run ` goes before it (S12).
#[must_use]
pub fn first_line(script: &str) -> &str {
    let script = script.trim_start_matches([' ', '\t', '\r', '\n']);
    script.split(['\r', '\n']).next().unwrap_or_default()
}

/// The header of a `run` step: the script in colour, the shell and its `env`.
#[must_use]
pub fn run<'a>(script: &str, shell: &str, env: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut lines = vec![format!("##[group]Run {}", first_line(script))];
    let script = script.replace("\r\n", "\n");
    for line in script.trim_end_matches('\n').split('\n') {
        lines.push(format!("{SCRIPT_COLOUR}{line}{NO_COLOUR}"));
    }
    lines.push(format!("shell: {shell}"));
    list("env:", env, &mut lines);
    lines.push("##[endgroup]".to_owned());
    lines
}

/// The header of a `uses` step: `name` is `owner/repo/path@ref`, `./path` or `docker://image`. Inputs without a value
/// are left out.
#[must_use]
pub fn uses<'a, 'b>(
    name: &str,
    inputs: impl IntoIterator<Item = (&'a str, &'a str)>,
    env: impl IntoIterator<Item = (&'b str, &'b str)>,
) -> Vec<String> {
    let mut lines = vec![format!("##[group]Run {name}")];
    let mut inputs = inputs.into_iter().peekable();
    if inputs.peek().is_some() {
        list("with:", inputs.filter(|(_, value)| !value.is_empty()), &mut lines);
        if lines.len() == 1 {
            lines.push("with:".to_owned());
        }
    }
    list("env:", env, &mut lines);
    lines.push("##[endgroup]".to_owned());
    lines
}

/// What the post step of an action begins with.
pub const POST: &str = "Post job cleanup.";

fn list<'a>(title: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>, lines: &mut Vec<String>) {
    let mut pairs = pairs.into_iter().peekable();
    if pairs.peek().is_none() {
        return;
    }
    lines.push(title.to_owned());
    for (name, value) in pairs {
        // A value with line breaks goes on at the beginning of the next line.
        lines.extend(format!("  {name}: {value}").split('\n').map(|line| line.trim_end_matches('\r').to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_github() {
        assert_eq!(
            run("\n  echo a\necho b\n", "/usr/bin/bash -e {0}", [("A", "1"), ("B", "x\ny")]),
            [
                "##[group]Run echo a",
                "\x1b[36;1m\x1b[0m",
                "\x1b[36;1m  echo a\x1b[0m",
                "\x1b[36;1mecho b\x1b[0m",
                "shell: /usr/bin/bash -e {0}",
                "env:",
                "  A: 1",
                "  B: x",
                "y",
                "##[endgroup]"
            ]
        );
        assert_eq!(
            uses("actions/cache@v4", [("path", "x"), ("key", "")], []),
            ["##[group]Run actions/cache@v4", "with:", "  path: x", "##[endgroup]"]
        );
        assert_eq!(uses("./a", [], []), ["##[group]Run ./a", "##[endgroup]"]);
    }
}
