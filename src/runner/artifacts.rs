//! What steps declare in `GITHUB_ARTIFACTS` (W12): read and hashed on the host when a step has ended, listed for those after it.

use serde::{Deserialize, Serialize};

use crate::toolkit::annotation;
use crate::toolkit::artifacts::{self, Declared, LARGEST, Subject, invalid};
use crate::transport::{CommandFile, StepFile};

use super::JobError;
use super::contexts::Frame;
use super::job::Job;
use super::script::join;
use super::workspace::{quote, run};

/// What turns it on, in the environment of the host as for GitHub's runner.
const SWITCH: &str = "ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE";

/// Reads names from its input, each ended by a zero byte; prints for each a digest, or a letter that says why not.
const HASH_SCRIPT: &str = "if command -v sha256sum >/dev/null 2>&1; then h=sha256sum; else h='shasum -a 256'; fi\n\
    xargs -0 sh -c 'h=$1; shift; for f; do if [ -d \"$f\" ]; then echo d; elif [ -f \"$f\" ]; then $h <\"$f\" || echo u; \
    elif [ -e \"$f\" ]; then echo o; else echo n; fi; done' sh \"$h\"\n";

/// What one step declared, by line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Artifacts {
    pub(super) subjects: Vec<(usize, Subject)>,
    /// Why it fails the step.
    pub(super) fault: Option<String>,
}

impl Job {
    /// Whether the host wants declarations to be heeded. The files are there in any case.
    pub(super) fn heeds_artifacts(&self) -> bool {
        let on = |value: &String| value == "1" || value.eq_ignore_ascii_case("true");
        self.machine.get(SWITCH).is_some_and(on)
    }

    /// The file in which a step reads what was declared before it.
    pub(super) fn artifacts_list(&self, number: u32) -> StepFile {
        let content = if self.heeds_artifacts() { artifacts::list(&self.artifacts) } else { String::new() };
        StepFile {
            path: self.host.file_path(number, CommandFile::ArtifactsList),
            content: content.into_bytes(),
            executable: false,
            temporary: false,
        }
    }

    /// Adds what a step declared to what the job has; gives the message that fails the step, if any.
    pub(super) fn take_artifacts(&mut self, frame: &Frame, new: &Artifacts) -> Result<Option<String>, JobError> {
        let added = match &new.fault {
            Some(fault) => Err(fault.clone()),
            None => artifacts::add(&mut self.artifacts, &new.subjects),
        };
        match added {
            Ok(0) => Ok(None),
            Ok(count) => {
                let total = self.artifacts.len();
                self.say_line(&format!("Captured {count} artifact subject(s) from this step (job total: {total})."))?;
                Ok(None)
            }
            Err(fault) => {
                self.error(frame.number, "Unable to process file command 'artifacts' successfully.")?;
                Ok(Some(fault))
            }
        }
    }

    /// Reads what a step declared. `on_host`: it ran beside the job's container, not in it.
    pub(super) async fn declared_artifacts(&mut self, number: u32, on_host: bool) -> Result<Artifacts, JobError> {
        if !self.heeds_artifacts() {
            return Ok(Artifacts::default());
        }
        let file = self.host.file_path(number, CommandFile::Artifacts);
        let script = format!(
            "f={}\n[ -f \"$f\" ] && [ -s \"$f\" ] || exit 0\necho $(wc -c <\"$f\")\nexec head -c {LARGEST} <\"$f\"\n",
            quote(&file)
        );
        let answer = run(&self.host, "reading GITHUB_ARTIFACTS", &script, b"").await?;
        let Some(end) = answer.iter().position(|&byte| byte == b'\n') else { return Ok(Artifacts::default()) };
        let size = String::from_utf8_lossy(&answer[..end]).trim().parse().unwrap_or(0);
        if size > LARGEST {
            return Ok(Artifacts { subjects: Vec::new(), fault: Some(artifacts::too_large(size)) });
        }
        let (declared, fault) = artifacts::read(&answer[end + 1..]);
        self.hash_declared(declared, fault, on_host).await
    }

    async fn hash_declared(
        &mut self,
        declared: Vec<(usize, Declared)>,
        fault: Option<String>,
        on_host: bool,
    ) -> Result<Artifacts, JobError> {
        let places: Vec<Option<String>> = declared
            .iter()
            .map(|(_, one)| match one {
                Declared::File(path) => self.place_of_artifact(path, on_host),
                Declared::Image(_) => None,
            })
            .collect();
        let mut names = Vec::new();
        for place in places.iter().flatten() {
            names.extend_from_slice(place.as_bytes());
            names.push(0);
        }
        let answers = match names.is_empty() {
            true => Vec::new(),
            false => run(&self.host, "hashing artifacts", HASH_SCRIPT, &names).await?,
        };
        let answers = String::from_utf8_lossy(&answers).into_owned();
        let mut answers = answers.lines();
        let mut subjects = Vec::with_capacity(declared.len());
        for ((line, one), place) in declared.into_iter().zip(places) {
            let subject = match (one, place) {
                (Declared::Image(subject), _) => Ok(subject),
                (Declared::File(path), Some(place)) => self.file_subject(&path, &place, answers.next()),
                (Declared::File(path), None) => Err(format!(
                    "absolute path '{path}' is not inside a volume mounted into the container and cannot be resolved"
                )),
            };
            match subject {
                Ok(subject) => subjects.push((line, subject)),
                Err(reason) => return Ok(Artifacts { subjects: Vec::new(), fault: Some(invalid(line, &reason)) }),
            }
        }
        Ok(Artifacts { subjects, fault })
    }

    fn file_subject(&self, path: &str, place: &str, answer: Option<&str>) -> Result<Subject, String> {
        match answer.and_then(|answer| answer.split_whitespace().next()) {
            Some("d") => Err(format!("'{path}' is a directory, not a regular file")),
            Some("o") => Err(format!("'{path}' is not a regular file")),
            Some("n") if path.starts_with('/') => Err(format!("file '{path}' does not exist")),
            Some("n") => Err(format!(
                "file '{path}' does not exist (relative paths are resolved against the workspace root '{}')",
                self.seen(&self.workspace.path)
            )),
            Some(digits) if digits.len() == 64 => Ok(Subject::file(place, digits)),
            _ => Err(format!("file '{path}' cannot be read")),
        }
    }

    /// Where a declared file is on the host. Nothing for a path that only a container has: the host's file of that name is another.
    fn place_of_artifact(&self, path: &str, on_host: bool) -> Option<String> {
        if !path.starts_with('/') {
            return Some(join(&self.workspace.path, path));
        }
        let mounts = if on_host { Vec::new() } else { self.mounts() };
        if mounts.is_empty() {
            return Some(path.to_owned());
        }
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let paths = annotation::Paths { mounts, ..annotation::Paths::default() };
        let place = paths.to_host(path);
        (place != path).then_some(place)
    }
}
