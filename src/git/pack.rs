//! What a machine that cannot fetch is sent: packs of commits with so much history, and what else a checkout needs to know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Credentials, Error, Repository};

/// A large history is packed anew.
const PACK_TIMEOUT: Duration = Duration::from_secs(1800);
/// Files larger than this are no pointers to others.
const LARGEST_POINTER: u64 = 1024;

/// A submodule as a commit has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submodule {
    /// Its section of `.gitmodules`: the name of its directory below `.git/modules`.
    pub name: String,
    /// From the top of the repository.
    pub path: String,
    /// As written, maybe relative.
    pub url: String,
    pub commit: String,
}

/// A file that stands for a larger one, which git-lfs keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub path: String,
    /// SHA-256 of the content, in hexadecimal.
    pub oid: String,
    pub executable: bool,
}

impl Pointer {
    /// Where git-lfs keeps the content, below a git directory.
    #[must_use]
    pub fn place(&self) -> String {
        format!("lfs/objects/{}/{}/{}", &self.oid[..2], &self.oid[2..4], self.oid)
    }
}

/// So many of the commits that are there have their files left out of a pack: to know them, their trees are read.
const MOST_TREES: usize = 32;

impl Repository {
    /// The commits behind which nothing is sent: with `depth` 1 the tips themselves, where they have parents. `depth` 0 means all
    /// history that this repository has.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn cut(&self, tips: &[String], depth: u32) -> Result<Vec<String>, Error> {
        let own: BTreeSet<String> = std::fs::read_to_string(self.git_dir().join("shallow"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        if depth == 0 {
            return Ok(own.into_iter().collect());
        }
        let mut objects = self.objects()?;
        let mut seen = BTreeSet::new();
        let mut cut = Vec::new();
        let mut level: Vec<String> = tips.to_vec();
        for distance in 1..=depth {
            let mut next = Vec::new();
            for name in level {
                let Some(info) = objects.commit(&name).await? else { continue };
                if !seen.insert(info.id.clone()) || info.parents.is_empty() {
                    continue;
                }
                if distance == depth || own.contains(&info.id) {
                    cut.push(info.id);
                } else {
                    next.extend(info.parents);
                }
            }
            level = next;
            if level.is_empty() {
                break;
            }
        }
        objects.close().await;
        Ok(cut)
    }

    /// Those of these commits that are here, each once.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn known(&self, offered: &[String]) -> Result<Vec<String>, Error> {
        let mut known: Vec<String> = Vec::new();
        if offered.is_empty() {
            return Ok(known);
        }
        let mut objects = self.objects()?;
        for id in offered {
            if !known.contains(id) && objects.commit(id).await?.is_some() {
                known.push(id.clone());
            }
        }
        objects.close().await;
        Ok(known)
    }

    /// Writes a pack and its index into a directory: the tips with their history up to `cut`, less what the commits `without`
    /// bring. Gives the files; none when there is nothing to send.
    ///
    /// # Errors
    /// An unknown tip, or an unwritable directory.
    pub async fn pack(
        &self,
        tips: &[String],
        cut: &[String],
        without: &[String],
        into: &Path,
    ) -> Result<Vec<PathBuf>, Error> {
        let mut wanted = String::new();
        for id in cut.iter().chain(without) {
            wanted.push_str(&format!("--shallow {id}\n"));
        }
        for tip in tips {
            wanted.push_str(&format!("{tip}\n"));
        }
        if !without.is_empty() {
            wanted.push_str("--not\n");
            without.iter().for_each(|id| wanted.push_str(&format!("{id}\n")));
            // Histories that are cut off have no commit in common, so git would compare no trees by itself.
            without.iter().take(MOST_TREES).for_each(|id| wanted.push_str(&format!("{id}^{{tree}}\n")));
        }
        self.write_pack(wanted, into).await
    }

    /// The same with all history: what the commits `without` reach is there, their ancestors too.
    ///
    /// # Errors
    /// An unknown tip, or an unwritable directory.
    pub async fn pack_history(&self, tips: &[String], without: &[String], into: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut wanted = tips.join("\n");
        wanted.push_str("\n--not\n");
        wanted.push_str(&without.join("\n"));
        wanted.push('\n');
        self.write_pack(wanted, into).await
    }

    async fn write_pack(&self, wanted: String, into: &Path) -> Result<Vec<PathBuf>, Error> {
        let own = self.git_dir().join("objects");
        let objects = match own.canonicalize() {
            Ok(own) if own.is_dir() => own.to_string_lossy().into_owned(),
            // A second working tree has those of the first.
            _ => {
                let mut asked = self.git("rev-parse");
                asked.args(["--path-format=absolute", "--git-path", "objects"]);
                asked.text().await?
            }
        };
        let mut git = self.git("pack-objects");
        // git writes a pack among the objects first and renames it then: they are read from the repository, which may be on
        // another file system or closed for writing, and written beside the pack.
        git.env("GIT_OBJECT_DIRECTORY", into).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects.trim_end());
        git.args(["--revs", "--quiet", "--delta-base-offset", "--non-empty"]).arg(into.join("pack"));
        git.input = wanted.into_bytes();
        git.timeout = PACK_TIMEOUT;
        let answer = git.text().await?;
        let names = answer.lines().map(str::trim).filter(|line| !line.is_empty());
        let names = names.flat_map(|name| ["pack", "idx"].map(|kind| into.join(format!("pack-{name}.{kind}"))));
        Ok(names.filter(|path| path.is_file()).collect())
    }

    /// What a ref is, not peeled: for a tag with a message the tag itself.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn object_of(&self, name: &str) -> Result<Option<String>, Error> {
        let mut git = self.git("rev-parse");
        git.args(["--verify", "--quiet", "--end-of-options", name]);
        Ok(git.maybe().await?.map(|answer| answer.trim_end().to_owned()))
    }

    /// All refs under a prefix, full names with the objects they name; tags are not peeled.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn objects_under(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let mut git = self.git("for-each-ref");
        git.args(["--format=%(objectname) %(refname)", "--", prefix]);
        let answer = git.text().await?;
        Ok(answer.lines().filter_map(|line| line.split_once(' ')).map(|(id, name)| (name.into(), id.into())).collect())
    }

    /// The submodules of a commit, those that `.gitmodules` tells an address of.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn submodules(&self, commit: &str) -> Result<Vec<Submodule>, Error> {
        let mut git = self.git("config");
        git.args(["--null", "--list", &format!("--blob={commit}:.gitmodules")]);
        let listed = match git.bytes().await {
            Ok(listed) => listed,
            // There is no such file, or none that git can read: as `git submodule` does, nothing is done then.
            Err(Error::Failed { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut tree = self.git("ls-tree");
        tree.args(["-r", "-z", "--full-tree", "--end-of-options", commit]);
        let tree = tree.bytes().await?;
        let mut found: Vec<Submodule> = Vec::new();
        for entry in String::from_utf8_lossy(&listed).split('\0') {
            let Some((key, value)) = entry.split_once('\n') else { continue };
            let Some((name, setting)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            // A name is a directory on the host: git refuses these too.
            if name.split(['/', '\\']).any(|part| part == ".." || part.is_empty()) {
                continue;
            }
            let at = found.iter().position(|module| module.name == name).unwrap_or_else(|| {
                let empty = String::new;
                found.push(Submodule { name: name.to_owned(), path: empty(), url: empty(), commit: empty() });
                found.len() - 1
            });
            match setting {
                "path" => value.clone_into(&mut found[at].path),
                "url" => value.clone_into(&mut found[at].url),
                _ => {}
            }
        }
        for line in tree.split(|&byte| byte == 0) {
            let line = String::from_utf8_lossy(line);
            let Some((head, path)) = line.split_once('\t') else { continue };
            let Some(id) = head.strip_prefix("160000 commit ") else { continue };
            for module in found.iter_mut().filter(|module| module.path == path) {
                id.clone_into(&mut module.commit);
            }
        }
        found.retain(|module| !module.url.is_empty() && !module.commit.is_empty());
        Ok(found)
    }

    /// The files of a commit that stand for larger ones.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn pointers(&self, commit: &str) -> Result<Vec<Pointer>, Error> {
        let mut tree = self.git("ls-tree");
        tree.args(["-r", "-z", "-l", "--full-tree", "--end-of-options", commit]);
        let tree = tree.bytes().await?;
        let mut objects = self.objects()?;
        let mut found = Vec::new();
        for line in tree.split(|&byte| byte == 0) {
            let line = String::from_utf8_lossy(line);
            let Some((head, path)) = line.split_once('\t') else { continue };
            let words: Vec<&str> = head.split_ascii_whitespace().collect();
            let [mode, "blob", id, size] = words[..] else { continue };
            let small = size.parse::<u64>().is_ok_and(|size| size <= LARGEST_POINTER && size > 60);
            if mode == "120000" || !small {
                continue;
            }
            let bytes = objects.object(id).await?.map(|(_, _, bytes)| bytes).unwrap_or_default();
            if let Some(oid) = pointed(&bytes) {
                found.push(Pointer { path: path.to_owned(), oid, executable: mode == "100755" });
            }
        }
        objects.close().await;
        Ok(found)
    }

    /// Git directories that may have what this one has not: those it borrows objects from.
    #[must_use]
    pub fn lenders(&self) -> Vec<PathBuf> {
        let mut all = vec![self.git_dir().to_owned()];
        let borrowed = std::fs::read_to_string(self.git_dir().join("objects/info/alternates")).unwrap_or_default();
        let borrowed = borrowed.lines().map(|line| self.git_dir().join("objects").join(line));
        all.extend(borrowed.filter_map(|objects| objects.parent().map(Path::to_owned)));
        all
    }
}

/// What a pointer of git-lfs points at: `version https://git-lfs…`, then sorted keys, one of them `oid sha256:…`.
fn pointed(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.starts_with("version https://git-lfs.github.com/spec/") && !text.starts_with("version https://hawser.") {
        return None;
    }
    let oid = text.lines().find_map(|line| line.strip_prefix("oid sha256:"))?.trim();
    (oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| oid.to_ascii_lowercase())
}

/// Fetches commits and refs of a repository elsewhere into a bare one on this machine, so much history of each.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn fetch_from(
    into: &Path,
    url: &str,
    credentials: &Credentials,
    refspecs: &[String],
    depth: u32,
) -> Result<Repository, Error> {
    let repository = Repository::init_bare(into, "main").await?;
    let mut git = repository.git("fetch");
    credentials.apply(&mut git, url);
    // What a workflow names is fetched over the network or not at all.
    git.env("GIT_ALLOW_PROTOCOL", "http:https");
    git.args(["--quiet", "--no-tags", "--no-auto-maintenance", "--no-write-fetch-head"]);
    if depth > 0 {
        git.arg(format!("--depth={depth}"));
    }
    git.args(["--end-of-options", url]).args(refspecs);
    git.timeout = PACK_TIMEOUT;
    git.text().await?;
    Ok(repository)
}

/// Where a submodule's address leads from the address of the repository around it, as `git submodule` resolves it.
#[must_use]
pub fn resolve_url(around: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = around.trim_end_matches('/');
    let mut rest = url;
    let mut colon = false;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            let cut = base.rfind(['/', ':']);
            colon = cut.is_some_and(|at| base.as_bytes()[at] == b':');
            base = cut.map_or("", |at| &base[..at]);
        } else {
            break;
        }
    }
    format!("{base}{}{}", if colon { ':' } else { '/' }, rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_submodules_are_resolved_as_git_does() {
        for (around, url, expect) in [
            ("https://h/o/r", "../x.git", "https://h/o/x.git"),
            ("https://h/o/r.git/", "../../p/x", "https://h/p/x"),
            ("https://h/o/r", "./x", "https://h/o/r/x"),
            ("git@h:o/r.git", "../x.git", "git@h:o/x.git"),
            ("git@h:r.git", "../x.git", "git@h:x.git"),
            ("https://h/o/r", "https://e/x", "https://e/x"),
            ("https://h/o/r", "../x/", "https://h/o/x"),
        ] {
            assert_eq!(resolve_url(around, url), expect, "{around} {url}");
        }
    }

    #[test]
    fn pointers_are_told_from_other_small_files() {
        let oid = "a".repeat(64);
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 3\n");
        assert_eq!(pointed(text.as_bytes()), Some(oid.clone()));
        assert_eq!(pointed(format!("oid sha256:{oid}\n").as_bytes()), None);
        assert_eq!(pointed(b"version https://git-lfs.github.com/spec/v1\noid sha256:../../x\n"), None);
        assert_eq!(pointed(b"\xff\xfe"), None);
    }
}
