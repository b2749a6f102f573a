//! What `::error file=…,line=…::message` and its siblings point at.
//!
//! Pure: no I/O, no clock, no async.

use crate::run::report::{Annotation, AnnotationLevel};

use super::command::Command;

/// The longest message of an annotation, in characters (W6).
pub const LONGEST_MESSAGE: usize = 4096;

/// Drops and completes `line`, `endLine`, `col` and `endColumn` where they do not fit together, as GitHub's runner
/// does (W6). Returns what was wrong, for the debug log.
pub fn validate(command: &mut Command) -> Vec<String> {
    let mut faults = Vec::new();
    let name = command.name.clone();
    let mut fault = |text: &str| faults.push(format!("Invalid {name} command value. {text}"));
    let text = |command: &Command, key: &str| command.property(key).unwrap_or_default().to_owned();
    let number = |text: &str| text.trim().parse::<i32>().ok();

    let mut line = text(command, "line");
    let end_line = text(command, "endLine");
    let (mut start, end) = (number(&line), number(&end_line));
    let (mut column, end_column) = (number(&text(command, "col")), number(&text(command, "endColumn")));
    let has_column = column.is_some() || end_column.is_some();

    if end.is_some() && start.is_none() {
        fault("'endLine' can only be set if 'line' is provided");
        command.set_property("line", end_line.clone());
        start = end;
        line.clone_from(&end_line);
        // The end of a line completed in this way is its beginning.
    }
    if end_column.is_some() && column.is_none() {
        fault("'endColumn' can only be set if 'col' is provided");
        command.set_property("col", text(command, "endColumn"));
        column = end_column;
    }
    let mut drop_columns = false;
    if start.is_none() && has_column {
        fault("'col' and 'endColumn' can only be set if 'line' value is provided.");
        drop_columns = true;
    }
    if end.is_some() && line != end_line && has_column {
        fault("'col' and 'endColumn' cannot be set if 'line' and 'endLine' are different values.");
        drop_columns = true;
    }
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        fault("'endLine' cannot be less than 'line'.");
        command.remove_property("line");
        command.remove_property("endLine");
    }
    if column.zip(end_column).is_some_and(|(column, end)| end < column) {
        fault("'endColumn' cannot be less than 'col'.");
        drop_columns = true;
    }
    if drop_columns {
        command.remove_property("col");
        command.remove_property("endColumn");
    }
    faults
}

/// The annotation a validated `notice`, `warning` or `error` command makes.
#[must_use]
pub fn from_command(command: &Command, level: AnnotationLevel, paths: &Paths) -> Annotation {
    let number = |key: &str| command.property(key).and_then(|text| text.trim().parse().ok());
    Annotation {
        level,
        message: command.data.clone(),
        title: command.property("title").map(str::to_owned),
        file: command.property("file").map(|file| paths.relative(file)),
        line: number("line"),
        end_line: number("endLine"),
        column: number("col"),
        end_column: number("endColumn"),
        step: None,
    }
}

/// A plain annotation without a place.
#[must_use]
pub fn plain(level: AnnotationLevel, message: String) -> Annotation {
    Annotation {
        level,
        message,
        title: None,
        file: None,
        line: None,
        end_line: None,
        column: None,
        end_column: None,
        step: None,
    }
}

/// The word of a level in a log: `##[error]`.
#[must_use]
pub fn tag(level: AnnotationLevel) -> &'static str {
    match level {
        AnnotationLevel::Notice => "##[notice]",
        AnnotationLevel::Warning => "##[warning]",
        AnnotationLevel::Failure => "##[error]",
    }
}

/// How paths that a step prints become paths of the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Paths {
    /// `GITHUB_WORKSPACE` on the host.
    pub workspace: String,
    /// Where the workflow's repository is checked out, when not in the workspace itself.
    pub repository: Option<String>,
    /// In a container: (path inside, path on the host).
    pub mounts: Vec<(String, String)>,
}

impl Paths {
    /// A path of a command: relative to the workspace if it is below it, else as it was said.
    #[must_use]
    pub fn relative(&self, path: &str) -> String {
        let host = self.to_host(path);
        match below(&host, &self.workspace) {
            Some(rest) => rest.replace('\\', "/"),
            None => host,
        }
    }

    /// The path on the host of a path that was said inside the step's container.
    #[must_use]
    pub fn to_host(&self, path: &str) -> String {
        let mount = self.mounts.iter().filter(|(inside, _)| below(path, inside).is_some() || path == inside);
        match mount.max_by_key(|(inside, _)| inside.len()) {
            Some((inside, outside)) => format!("{outside}{}", &path[inside.len()..]),
            None => path.to_owned(),
        }
    }

    /// The file a problem matcher found, on the host: joined to the directory of `from_path`, then to the workspace,
    /// without `.` and `..` (W10).
    #[must_use]
    pub fn found(&self, file: &str, from_path: Option<&str>) -> String {
        let mut path = file.to_owned();
        let mut translate = true;
        if !is_absolute(&path)
            && let Some(directory) =
                from_path.and_then(|from| from.rsplit_once(['/', '\\'])).map(|(directory, _)| directory)
            && !directory.trim().is_empty()
        {
            path = format!("{directory}/{path}");
        }
        if !is_absolute(&path) {
            path = format!("{}/{path}", self.workspace);
            translate = false;
        }
        let path = normalize(&path);
        if translate { normalize(&self.to_host(&path)) } else { path }
    }

    /// A found file relative to the repository; nothing if it is elsewhere.
    #[must_use]
    pub fn in_repository(&self, path: &str) -> Option<String> {
        let root = normalize(self.repository.as_deref().unwrap_or(&self.workspace));
        below(path, &root).map(str::to_owned)
    }
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let directory = directory.trim_end_matches('/');
    if directory.is_empty() {
        return None;
    }
    path.strip_prefix(directory)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// Without `.`, `..` and doubled slashes; an absolute path stays one.
fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if is_absolute(path) { format!("/{joined}") } else { joined }
}
