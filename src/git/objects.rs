//! Reading commits, trees and files through one `git cat-file --batch`: a question costs a round trip over a pipe, not
//! a process.

use std::process::Stdio;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{Error, LOCAL_TIMEOUT, Repository};

/// A file larger than this is not read: workflow files end at 1 MiB (S19), `.gitmodules` and action files well before.
const LARGEST_FILE: u64 = 8 << 20;

/// Somebody named in a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
    pub at: Timestamp,
    /// As written: `+0200`.
    pub zone: String,
}

/// What a commit says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitInfo {
    pub id: String,
    pub tree: String,
    pub parents: Vec<String>,
    pub author: Person,
    pub committer: Person,
    /// Without the line end at its end.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: EntryKind,
    pub id: String,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Executable,
    Link,
    Directory,
    Submodule,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// From the top of the repository, with `/`.
    pub path: String,
    /// The bytes, what is not UTF-8 replaced.
    pub text: String,
}

/// An open reader of one repository's objects.
pub struct Objects {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Hexadecimal digits of half an object name in a tree: 20 bytes, or 32 with SHA-256.
    id_bytes: usize,
}

impl Repository {
    /// Opens a reader.
    ///
    /// # Errors
    /// When git cannot be started.
    pub fn objects(&self) -> Result<Objects, Error> {
        let mut git = self.git("cat-file");
        git.args(["--batch"]);
        let command = &mut git.command;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| Error::Start { source })?;
        super::give_way(&child);
        let questions = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Objects { child, questions, answers, id_bytes: 20 })
    }
}

impl Objects {
    /// What a commit says; `None` when the name means no commit.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn commit(&mut self, name: &str) -> Result<Option<CommitInfo>, Error> {
        let Some((id, kind, bytes)) = self.ask(&format!("{name}^{{commit}}")).await? else { return Ok(None) };
        Ok((kind == "commit").then(|| parse_commit(id, &bytes)))
    }

    /// The entries of a directory of a commit, in git's order; `None` when it is not there. The top is the empty path.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn directory(&mut self, commit: &str, path: &str) -> Result<Option<Vec<Entry>>, Error> {
        let Some((id, kind, bytes)) = self.ask(&format!("{commit}:{}", path.trim_matches('/'))).await? else {
            return Ok(None);
        };
        self.id_bytes = id.len() / 2;
        Ok((kind == "tree").then(|| parse_tree(&bytes, self.id_bytes)))
    }

    /// The bytes of a file of a commit (of a link: where it leads); `None` when there is no such file.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn file(&mut self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let answer = self.ask(&format!("{commit}:{}", path.trim_start_matches("./"))).await?;
        Ok(answer.filter(|(_, kind, _)| kind == "blob").map(|(_, _, bytes)| bytes))
    }

    /// The workflow files of a commit: `*.yml` and `*.yaml` directly in the first of the directories that has any.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn workflows(&mut self, commit: &str, directories: &[String]) -> Result<Vec<TextFile>, Error> {
        for directory in directories {
            let directory = directory.trim_matches('/');
            let entries = self.directory(commit, directory).await?.unwrap_or_default();
            let mut files = Vec::new();
            for entry in entries {
                let wanted = matches!(entry.kind, EntryKind::File | EntryKind::Executable)
                    && (entry.name.ends_with(".yml") || entry.name.ends_with(".yaml"));
                if !wanted {
                    continue;
                }
                if let Some((_, _, bytes)) = self.ask(&entry.id).await? {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let path = [directory, entry.name.as_str()].join("/").trim_start_matches('/').to_owned();
                    files.push(TextFile { path, text });
                }
            }
            if !files.is_empty() {
                return Ok(files);
            }
        }
        Ok(Vec::new())
    }

    /// Any object: its name, its kind and its bytes; `None` when there is none, or a larger one than is read.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn object(&mut self, name: &str) -> Result<Option<(String, String, Vec<u8>)>, Error> {
        self.ask(name).await
    }

    /// Ends the reader.
    pub async fn close(self) {
        let Self { mut child, questions, .. } = self;
        drop(questions);
        drop(child.wait().await);
    }

    async fn ask(&mut self, name: &str) -> Result<Option<(String, String, Vec<u8>)>, Error> {
        const ACTION: &str = "cat-file";
        // A line end would be a second question; no object can be named so.
        if name.contains(['\n', '\0']) {
            return Ok(None);
        }
        let talk = |source| Error::Talk { action: ACTION, source };
        let work = async {
            self.questions.write_all(format!("{name}\n").as_bytes()).await.map_err(talk)?;
            self.questions.flush().await.map_err(talk)?;
            let mut head = String::new();
            self.answers.read_line(&mut head).await.map_err(talk)?;
            let head = head.trim_end();
            // The name is repeated in front of these words, spaces and all.
            if head.ends_with(" missing") || head.ends_with(" ambiguous") {
                return Ok(None);
            }
            let mut words = head.split(' ');
            let (id, kind, size) = (words.next(), words.next(), words.next().and_then(|size| size.parse::<u64>().ok()));
            let (Some(id), Some(kind), Some(size)) = (id, kind, size) else {
                return Err(Error::Answer { action: ACTION, what: head.chars().take(200).collect() });
            };
            let mut body = (&mut self.answers).take(size + 1);
            if size > LARGEST_FILE {
                tokio::io::copy(&mut body, &mut tokio::io::sink()).await.map_err(talk)?;
                return Ok(None);
            }
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes).await.map_err(talk)?;
            bytes.pop();
            if bytes.len() as u64 != size {
                return Err(Error::Answer { action: ACTION, what: format!("{id} ended early") });
            }
            Ok(Some((id.to_owned(), kind.to_owned(), bytes)))
        };
        let timeout = Error::Timeout { action: ACTION, limit: LOCAL_TIMEOUT };
        tokio::time::timeout(LOCAL_TIMEOUT, work).await.unwrap_or(Err(timeout))
    }
}

fn parse_tree(bytes: &[u8], id_bytes: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some(space) = rest.iter().position(|&byte| byte == b' ') {
        let mode = &rest[..space];
        let Some(end) = rest[space..].iter().position(|&byte| byte == 0).map(|end| space + end) else { break };
        let name = String::from_utf8_lossy(&rest[space + 1..end]).into_owned();
        let Some(id) = rest.get(end + 1..end + 1 + id_bytes) else { break };
        let kind = match mode {
            b"40000" => EntryKind::Directory,
            b"120000" => EntryKind::Link,
            b"160000" => EntryKind::Submodule,
            b"100755" => EntryKind::Executable,
            _ => EntryKind::File,
        };
        entries.push(Entry { name, kind, id: id.iter().map(|byte| format!("{byte:02x}")).collect() });
        rest = &rest[end + 1 + id_bytes..];
    }
    entries
}

fn parse_commit(id: String, bytes: &[u8]) -> CommitInfo {
    let text = String::from_utf8_lossy(bytes);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut commit = CommitInfo { id, message: message.trim_end().to_owned(), ..CommitInfo::default() };
    for line in head.lines() {
        match line.split_once(' ') {
            Some(("tree", id)) => id.clone_into(&mut commit.tree),
            Some(("parent", id)) => commit.parents.push(id.to_owned()),
            Some(("author", person)) => commit.author = parse_person(person),
            Some(("committer", person)) => commit.committer = parse_person(person),
            _ => {}
        }
    }
    commit
}

/// `Name <email> seconds zone`; commits by broken programs lack any of these.
pub(super) fn parse_person(text: &str) -> Person {
    let (name, rest) = text.split_once('<').unwrap_or((text, ""));
    let (email, time) = rest.rsplit_once('>').unwrap_or((rest, ""));
    let mut words = time.split_whitespace();
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Person {
        name: name.trim().to_owned(),
        email: email.trim().to_owned(),
        at: Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH),
        zone: words.next().unwrap_or("+0000").to_owned(),
    }
}
