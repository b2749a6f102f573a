//! What a checkout does on the host, as scripts for its `sh`: before the objects come, after they have come, and when the job
//! is over. The words in the log are those of the action where the same is done.

use super::super::workspace::quote;
use super::inputs::{Inputs, Keeps, Submodules};

/// A directory with more packs than this is made anew: each checkout may add one, and nobody packs them together.
const MOST_PACKS: usize = 50;

/// Defines what all three share. `g` shows a command and runs it, `s` shows one that is done without a process: each costs a
/// millisecond or two, and a checkout that changes little consists of them. `unauth` takes credentials out again, if there are any.
const SHARED: &str = r#"nl='
'
g() { echo "[command]$git $*"; "$git" "$@"; }
s() { echo "[command]$git $*"; }
keys() { n=$nl$(git config --local --name-only --list)$nl; }
drop_token() {
case $n in *"${nl}http.$o/.extraheader$nl"*) git config --local --unset-all "http.$o/.extraheader" ;; esac
case $n in *"${nl}includeif.gitdir:"*) ;; *) return ;; esac
while read -r k; do case $k in includeif.gitdir:*) ;; *) continue ;; esac
git config --local --get-all "$k" 'git-(credentials|resolve)-[0-9a-f-]*\.config$' | while read -r v; do
case $v in "$t"/git-*|/github/runner_temp/git-*|/__w/_temp/git-*) rm -f -- "$t/${v##*/}" ;; esac; done
git config --local --unset-all "$k" 'git-(credentials|resolve)-[0-9a-f-]*\.config$'
done <<KEYS
$n
KEYS
}
unauth() {
for f in "$key" "${key}_known_hosts"; do [ ! -e "$f" ] || rm -f -- "$f"; done
keys
case $n in *"${nl}core.sshcommand$nl"*) git config --local --unset-all core.sshCommand ;; esac
drop_token
[ ! -d .git/modules ] || find .git/modules -name config -type f 2>/dev/null | while read -r f; do
( d=${f%/config}; [ -f "$d/HEAD" ] || exit 0; export GIT_DIR="$d"; git config --local --unset-all core.sshCommand; git config --local --unset-all "url.$o/.insteadOf"
keys; drop_token ); done
} 2>/dev/null
"#;

/// What the scripts need to know.
pub(super) struct Scene<'a> {
    pub(super) inputs: &'a Inputs,
    /// Where the checkout goes, on the host.
    pub(super) directory: &'a str,
    /// `RUNNER_TEMP` on the host.
    pub(super) temp: &'a str,
    /// Tells this checkout's files from those of others.
    pub(super) id: &'a str,
    /// Scheme, host and port of the server.
    pub(super) origin: &'a str,
    pub(super) url: &'a str,
    /// The value of the header that proves who we are; empty: there is none.
    pub(super) header: &'a str,
    /// The git directory and `RUNNER_TEMP` as steps see them, and as docker actions do.
    pub(super) seen: [(String, String); 2],
    /// `HOST:PORT:ADDRESS`, for a name that not every git finds.
    pub(super) resolve: Option<String>,
    /// Object names of 64 digits.
    pub(super) sha256: bool,
    /// The path of ssh, where it is the host's.
    pub(super) has_container: bool,
}

/// What is checked out once the objects are there.
pub(super) enum Target {
    /// `git checkout` gets this name, and a branch is made at it.
    Known { name: String, branch: Option<String>, commit: String },
    /// The host asks the server itself.
    Fetched,
}

impl Scene<'_> {
    fn prelude(&self) -> String {
        format!(
            "exec 2>&1\numask 022\nuser_home=$HOME\nd={} t={} o={}\nh=$t/{id} key=$t/{id}_key\n\
             export RUNNER_TEMP=\"$t\" GIT_TERMINAL_PROMPT=0 GCM_INTERACTIVE=Never HOME=\"$h\"{lfs}\n\
             export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n\
             git=$(command -v git) || exit 127\n{SHARED}",
            quote(self.directory),
            quote(self.temp),
            quote(self.origin),
            id = self.id,
            lfs = if self.inputs.lfs { "" } else { " GIT_LFS_SKIP_SMUDGE=1" },
        )
    }

    /// Makes the directory ready for objects and sets credentials up. Lines that begin with `:` are answers: `:have ID` for commits
    /// that are there with all their files, `:shallow`, `:gone` (forget what was said before), `:lfs`.
    pub(super) fn prepare(&self) -> String {
        let mut script = self.prelude();
        script += "[ -d \"$d\" ] || { rm -f -- \"$d\"; fresh=1; }\nmkdir -p \"$d\" \"$h\" && cd \"$d\" || exit 1\n\
                   if [ -f \"$user_home/.gitconfig\" ]; then cp \"$user_home/.gitconfig\" \"$h/.gitconfig\"; else : >\"$h/.gitconfig\"; fi\n\
                   echo '##[group]Getting Git version info'\necho \"Working directory is '$d'\"\ng version\necho '##[endgroup]'\n";
        if self.inputs.lfs {
            script += "git lfs version >/dev/null 2>&1 && echo :lfs\n";
        }
        if self.inputs.safe_directory {
            script += "echo \"Temporarily overriding HOME='$h' before making global git config changes\"\n\
                       echo 'Adding repository directory to the temporary git global config as a safe directory'\n\
                       s config --global --add safe.directory \"$d\"\n";
            script += &append(&format!("\n[safe]\n\tdirectory = {}\n", quoted(self.directory)), "\"$h/.gitconfig\"");
        }
        script += &self.reuse();
        let format = if self.sha256 { " --object-format=sha256" } else { "" };
        script += &format!(
            "if [ ! -d .git ]; then\necho '##[group]Initializing the repository'\ng init{format} \"$d\" || exit $?\n\
             g remote add origin {url}\necho '##[endgroup]'\n\
             else\n[ \"$u\" = {url} ] || git config --local remote.origin.url {url}\nfi\n\
             echo '##[group]Disabling automatic garbage collection'\n\
             case $config in *\"${{nl}}gc.auto=0$nl\"*) s config --local gc.auto 0 ;; *) g config --local gc.auto 0 ;; esac\n\
             echo '##[endgroup]'\n",
            url = quote(self.url)
        );
        script += "echo '##[group]Setting up auth'\nunauth\n";
        script += &self.set_up_auth();
        script += "echo '##[endgroup]'\n";
        if let Some(place) = &self.resolve {
            // Only for the host: in the container of a docker action the name leads elsewhere.
            let file = format!("{}/git-resolve-{}.config", self.temp, self.id);
            script += "umask 077\n";
            script += &append(&format!("[http]\n\tcurloptResolve = {place}\n"), &quote(&file));
            script += "umask 022\n";
            let key = quoted(&format!("gitdir:{}/.git", self.directory));
            script += &append(&format!("[includeIf {key}]\n\tpath = {}\n", quoted(&file)), ".git/config");
        }
        script += "exit 0\n";
        script
    }

    /// Keeps an earlier checkout of the same repository, cleaned; anything else goes.
    fn reuse(&self) -> String {
        let tags = if self.inputs.depth == 0 { " refs/tags" } else { "" };
        let clean = if self.inputs.clean {
            "echo '##[group]Cleaning the repository'\n\
             if [ -d .git/modules ] && ! git submodule status >/dev/null; then keep=; fi\n\
             g clean -ffdx && g reset --hard HEAD || keep=\necho '##[endgroup]'\n\
             [ -n \"$keep\" ] || echo '##[warning]Unable to clean or reset the repository. The repository will be recreated instead.'\n"
        } else {
            ""
        };
        format!(
            "keep= config= u=\n\
             if [ -z \"$fresh\" ] && [ -d .git ] && c=$(git --git-dir=.git rev-parse --verify -q 'HEAD^{{commit}}' 2>/dev/null); then\n\
             config=$nl$(git config --local --list)$nl\n\
             case $config in *\"${{nl}}remote.origin.url=\"*) u=${{config##*\"${{nl}}remote.origin.url=\"}}; u=${{u%%\"$nl\"*}} ;; esac\n\
             case $u in *[/:]{name}|*[/:]{name}.[gG][iI][tT]) keep=1 ;; esac\n\
             case $config in *\"${{nl}}remote.origin.promisor=\"*) keep= ;; esac\n\
             set -- .git/objects/pack/*.pack; [ $# -le {MOST_PACKS} ] || keep=\nfi\n\
             if [ -n \"$keep\" ]; then\n\
             for f in index shallow config HEAD; do [ ! -e \".git/$f.lock\" ] || rm -f \".git/$f.lock\"; done\n\
             echo \":have $c\"; git update-ref --no-deref HEAD \"$c\"\n\
             refs=$(git for-each-ref --format='%(objectname) %(refname)' refs/heads refs/remotes{tags})\n\
             while read -r i r; do case $r in refs/remotes/*) echo \":have $i\" ;; esac; done <<REFS\n$refs\nREFS\n\
             [ ! -s .git/shallow ] || echo :shallow\n\
             [ ! -d .git/modules ] || find .git/modules -name HEAD -type f 2>/dev/null | while read -r m; do m=${{m%/HEAD}}\n\
             c=$(git --git-dir=\"$m\" rev-parse --verify -q 'HEAD^{{commit}}' 2>/dev/null) && echo \":module $c $m\"; done\n\
             echo '##[group]Removing previously created refs, to avoid conflicts'\n\
             while read -r i r; do [ -z \"$r\" ] || echo \"delete $r\"; done <<REFS | git update-ref --no-deref --stdin\n$refs\nREFS\n\
             echo '##[endgroup]'\n{clean}fi\n\
             if [ -z \"$keep\" ]; then\necho :gone\nconfig= u=\n\
             [ -n \"$fresh\" ] || echo \"Deleting the contents of '$d'\"\n\
             for f in * .[!.]* ..?*; do {{ [ -e \"$f\" ] || [ -L \"$f\" ]; }} && rm -rf -- \"$f\"; done\nfi\n",
            name = in_any_case(&self.inputs.repository.0),
        )
    }

    fn set_up_auth(&self) -> String {
        let mut script = String::new();
        if let Some(ssh) = &self.inputs.ssh {
            script += &format!(
                "( umask 077; cat >\"$key\" <<'{id}'\n{}{id}\n)\n\
                 {{ [ ! -f \"$user_home/.ssh/known_hosts\" ] || cat \"$user_home/.ssh/known_hosts\"; cat <<'{id}'\n{}\n{GITHUB_KEY}\n{id}\n\
                 }} >\"${{key}}_known_hosts\"\n\
                 ssh_command={command}\nexport GIT_SSH_COMMAND=\"$ssh_command\"\n\
                 echo \"Temporarily overriding GIT_SSH_COMMAND=$ssh_command\"\ng config --local core.sshCommand \"$ssh_command\"\n",
                ssh.key.replace(self.id, ""),
                ssh.known_hosts.replace(self.id, "").trim_end(),
                id = self.id,
                command = self.ssh_command(ssh.strict),
            );
        }
        if self.header.is_empty() {
            return script;
        }
        let section = format!("[http \"{}/\"]\n\textraheader = {}\n", self.origin, self.header);
        script
            + &match self.inputs.keeps {
                Keeps::InConfig => format!(
                    "echo \"[command]$git config --local http.$o/.extraheader AUTHORIZATION: basic ***\"\ncat >>.git/config <<'{id}'\n{section}{id}\n",
                    id = self.id
                ),
                Keeps::InFile => format!(
                    "( umask 077; cat >\"$t/{file}\" <<'{id}'\n{section}{id}\n)\n{includes}",
                    id = self.id,
                    file = self.credentials(),
                    includes = self.includes("--local", "").concat(),
                ),
            }
    }

    /// The name of the file that has the token.
    fn credentials(&self) -> String {
        format!("git-credentials-{}.config", self.id)
    }

    /// The commands that include the file with the token: by the git directory's path as steps and docker actions see it.
    fn includes(&self, place: &str, module: &str) -> Vec<String> {
        let file = self.credentials();
        let mut lines = Vec::new();
        for (git_dir, temp) in &self.seen {
            for worktrees in if module.is_empty() { &["", "/worktrees/*"][..] } else { &[""] } {
                let key = format!("includeIf.gitdir:{git_dir}{module}{worktrees}.path");
                lines.push(format!("g config {place} {} {}\n", quote(&key), quote(&format!("{temp}/{file}"))));
            }
        }
        lines
    }

    fn ssh_command(&self, strict: bool) -> String {
        let program = if self.has_container { "ssh" } else { "'\"$(command -v ssh)\"'" };
        let strict = if strict { " -o StrictHostKeyChecking=yes -o CheckHostIP=no" } else { "" };
        // RUNNER_TEMP is looked up when git runs: a container has the same files elsewhere.
        format!(
            "'\"{program}\" -i \"$RUNNER_TEMP/{id}_key\"{strict} -o \"UserKnownHostsFile=$RUNNER_TEMP/{id}_key_known_hosts\"'",
            id = self.id
        )
    }

    /// Sets refs, checks out, gets submodules. `refs` and `cut` are files of the host: what `git update-ref` reads, and the
    /// commits whose parents are not there.
    pub(super) fn apply(&self, target: &Target, refs: &str, cut: &str, parts: &Parts<'_>) -> String {
        let inputs = self.inputs;
        let mut script = self.prelude();
        script += "cd \"$d\" || exit 1\n";
        if let Some(ssh) = &inputs.ssh {
            script += &format!("export GIT_SSH_COMMAND={}\n", self.ssh_command(ssh.strict));
        }
        script += "trap 's=$?; ";
        if !inputs.persist {
            script += "echo \"##[group]Removing auth\"; unauth; echo \"##[endgroup]\"; ";
        }
        script += "rm -rf -- \"$h\"; exit $s' EXIT\n";
        script += &match target {
            Target::Known { .. } => {
                let mut script = String::new();
                if inputs.depth == 0 {
                    script += "rm -f .git/shallow\n";
                }
                script += &if parts.is_short {
                    format!(
                        "n=' '; [ ! -f .git/shallow ] || while read -r c; do n=\"$n$c \"; done <.git/shallow\n\
                         while read -r c; do case $n in *\" $c \"*) ;; *) echo \"$c\" >>.git/shallow ;; esac; done <{}\n",
                        quote(cut)
                    )
                } else {
                    format!(
                        "if [ -s {cut} ]; then cat {cut} >>.git/shallow; sort -u -o .git/shallow .git/shallow; fi\n",
                        cut = quote(cut)
                    )
                };
                script += &format!("git update-ref --no-deref --stdin <{refs} || exit $?\n", refs = quote(refs));
                script
            }
            Target::Fetched => self.fetch(),
        };
        if inputs.lfs {
            script += "if git lfs version >/dev/null 2>&1; then g lfs install --local; fi\n";
        }
        script += "echo '##[group]Determining the checkout info'\necho '##[endgroup]'\n";
        if inputs.lfs && parts.missing {
            let name = match target {
                Target::Known { name, .. } => quote(name),
                Target::Fetched => "\"${start:-$name}\"".to_owned(),
            };
            script += &format!(
                "echo '##[group]Fetching LFS objects'\nn=1\n\
                 until g lfs fetch origin {name}; do [ $n -lt 3 ] || exit 1; n=$((n + 1)); sleep 2; done\necho '##[endgroup]'\n"
            );
        }
        script += &self.sparse();
        script += "echo '##[group]Checking out the ref'\n";
        script += &match target {
            Target::Known { name, branch: Some(branch), .. } => {
                format!("g checkout --progress --force -B {} {} || exit $?\n", quote(branch), quote(name))
            }
            Target::Known { name, branch: None, .. } => {
                format!("g checkout --progress --force {} || exit $?\n", quote(name))
            }
            Target::Fetched => "if [ -n \"$start\" ]; then g checkout --progress --force -B \"$name\" \"$start\"; \
                                else g checkout --progress --force \"$name\"; fi || exit $?\n"
                .to_owned(),
        };
        if let Some((commit, overlay)) = parts.overlay {
            // The working tree as it stood, its differences uncommitted as they were.
            script += &format!(
                "git read-tree -m -u {commit} {overlay} || exit $?\ngit reset -q --mixed {commit} || exit $?\n\
                 git update-ref -d refs/towline/overlay\n"
            );
        }
        script += "echo '##[endgroup]'\n";
        script += &self.lfs_address();
        script += &self.get_submodules(parts);
        script += &match target {
            Target::Known { commit, .. } => format!("s log -1 --format=%H\necho {}\n", quote(commit)),
            Target::Fetched => "g log -1 --format=%H\n".to_owned(),
        };
        script
    }

    /// git-lfs asks a resolver of its own for the name that stands for this server: it is told the address. Only on the host.
    fn lfs_address(&self) -> String {
        let Some(port) = self.resolve.as_ref().and_then(|place| place.split(':').nth(1)) else { return String::new() };
        let url = format!("http://127.0.0.1:{port}/{}.git/info/lfs", self.inputs.repository);
        let mut script = format!(
            "f=$t/git-resolve-{}.config\n[ -f .lfsconfig ] || {}",
            self.id,
            append(&format!("[lfs]\n\turl = {}\n", quoted(&url)), "\"$f\"")
        );
        if !self.header.is_empty() {
            script += &format!(
                "cat >>\"$f\" <<'{id}'\n[http \"http://127.0.0.1:{port}/\"]\n\textraheader = {}\n{id}\n",
                self.header,
                id = self.id
            );
        }
        script
    }

    /// The host fetches by itself, with the refspecs of the action.
    fn fetch(&self) -> String {
        let inputs = self.inputs;
        let (name, commit) = (inputs.reference.as_str(), inputs.commit.as_str());
        let mut script = String::new();
        let mut reference = quote(name);
        if name.is_empty() && commit.is_empty() {
            script += "echo '##[group]Determining the default branch'\n\
                       ref=$(git ls-remote --quiet --exit-code --symref origin HEAD | sed -n 's/^ref: *\\([^\t ]*\\).*/\\1/p')\n\
                       [ -n \"$ref\" ] || { echo '##[error]Unexpected output when retrieving default branch'; exit 1; }\necho \"$ref\"\n\
                       echo '##[endgroup]'\n";
            reference = "\"$ref\"".to_owned();
        }
        script += &format!("ref={reference} commit={}\n", quote(commit));
        script += "b=${ref#refs/heads/} p=${ref#refs/pull/}\nset --\ncase $ref in\n\
                   '') [ -z \"$commit\" ] || set -- \"$commit\"; name=$commit start= ;;\n\
                   refs/heads/*) set -- \"+${commit:-$ref}:refs/remotes/origin/$b\"; name=$b start=refs/remotes/origin/$b ;;\n\
                   refs/pull/*) set -- \"+${commit:-$ref}:refs/remotes/pull/$p\"; name=refs/remotes/pull/$p start= ;;\n\
                   refs/*) set -- \"+$ref:$ref\"; name=$ref start= ;;\n\
                   *) set -- \"+refs/heads/$ref*:refs/remotes/origin/$ref*\" \"+refs/tags/$ref*:refs/tags/$ref*\"; name= start= ;;\nesac\n";
        if inputs.depth == 0 {
            script += "case $ref in refs/pull/*) ;; *) set -- ;; esac\n\
                       set -- '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*' \"$@\"\n";
        }
        let depth = match inputs.depth {
            0 => "$([ ! -f .git/shallow ] || echo --unshallow)".to_owned(),
            depth => format!("--depth={depth}"),
        };
        let tags = if inputs.tags { "" } else { " --no-tags" };
        script += &format!(
            "echo '##[group]Fetching the repository'\nn=1\n\
             until g -c protocol.version=2 fetch{tags} --prune --no-recurse-submodules {depth} origin \"$@\"; do\n\
             [ $n -lt 3 ] || exit 128; n=$((n + 1)); echo 'Waiting 5 seconds before trying again'; sleep 5; done\necho '##[endgroup]'\n"
        );
        script += "if [ -z \"$name\" ]; then\n\
                   if git show-ref --verify -q \"refs/remotes/origin/$ref\"; then name=$ref start=refs/remotes/origin/$ref\n\
                   elif git show-ref --verify -q \"refs/tags/$ref\"; then name=refs/tags/$ref\n\
                   else echo \"##[error]A branch or tag with the name '$ref' could not be found\"; exit 1; fi\nfi\n";
        script
    }

    fn sparse(&self) -> String {
        let inputs = self.inputs;
        if inputs.sparse.is_empty() {
            // A git that is too old for it has nothing to turn off.
            return "if [ -e .git/info/sparse-checkout ] || [ -e .git/config.worktree ]; then w=g; else w=s; fi\n\
                    $w sparse-checkout disable 2>/dev/null\n$w config --local --unset-all extensions.worktreeConfig\n"
                .to_owned();
        }
        let mut script = "echo '##[group]Setting up sparse checkout'\n".to_owned();
        if inputs.cone {
            let patterns: Vec<_> = inputs.sparse.iter().map(|line| quote(line)).collect();
            script += &format!(
                "git sparse-checkout init --cone >/dev/null\ng sparse-checkout set {} || exit $?\n",
                patterns.join(" ")
            );
        } else {
            script += &format!(
                "git sparse-checkout disable >/dev/null 2>&1\ngit config --local --unset-all extensions.worktreeConfig\n\
                 rm -f .git/config.worktree\ng config core.sparseCheckout true\nmkdir -p .git/info\n\
                 git config core.sparseCheckoutCone false\ncat >.git/info/sparse-checkout <<'{id}'\n\n{}\n{id}\n",
                inputs.sparse.join("\n").replace(self.id, ""),
                id = self.id
            );
        }
        script + "echo '##[endgroup]'\n"
    }

    fn get_submodules(&self, parts: &Parts<'_>) -> String {
        let inputs = self.inputs;
        let deep = match inputs.submodules {
            Submodules::No => return String::new(),
            Submodules::Direct => "",
            Submodules::Recursive => " --recursive",
        };
        let mut script = String::from("echo '##[group]Setting up auth for fetching submodules'\n");
        if !self.header.is_empty() {
            script += &format!(
                "cat >>\"$h/.gitconfig\" <<'{id}'\n[http \"{}/\"]\n\textraheader = {}\n{id}\n",
                self.origin,
                self.header,
                id = self.id
            );
        }
        let instead = format!("git@{}:", host_of(self.origin));
        if inputs.ssh.is_none() {
            script += &format!("g config --global --add \"url.$o/.insteadOf\" {}\n", quote(&instead));
        }
        script += "echo '##[endgroup]'\necho '##[group]Fetching submodules'\n";
        for module in parts.modules {
            // What was sent is a git directory without a head yet; git takes it for what it would have cloned.
            script += &format!(
                "m={m}\nif [ ! -f \"$m/HEAD\" ]; then git init -q --bare{format} \"$m\"; fi\n\
                 git --git-dir=\"$m\" config core.bare false\ngit --git-dir=\"$m\" config remote.origin.url {url}\n\
                 git --git-dir=\"$m\" config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'\n\
                 if [ -s \"$m/towline-cut\" ]; then cat \"$m/towline-cut\" >>\"$m/shallow\"; sort -u -o \"$m/shallow\" \"$m/shallow\"; \
                 rm -f \"$m/towline-cut\"; fi\n\
                 git --git-dir=\"$m\" --work-tree=. update-ref refs/towline/submodule {commit}\n",
                m = quote(&module.place),
                url = quote(&module.url),
                commit = module.commit,
                format = if module.commit.len() == 64 { " --object-format=sha256" } else { "" },
            );
        }
        let depth = if inputs.depth > 0 { format!(" --depth={}", inputs.depth) } else { String::new() };
        script += &format!(
            "g submodule sync{deep} || exit $?\n\
             g -c protocol.version=2 submodule update --init --force{depth}{deep} || exit $?\n\
             g submodule foreach{deep} 'git config --local gc.auto 0'\necho '##[endgroup]'\n"
        );
        for module in parts.modules {
            script += &format!("git --git-dir={} update-ref -d refs/towline/submodule\n", quote(&module.place));
        }
        if inputs.persist {
            script += "echo '##[group]Persisting credentials for submodules'\n";
            script += &self.persist_in_modules(deep, &instead);
            script += "echo '##[endgroup]'\n";
        }
        script
    }

    fn persist_in_modules(&self, deep: &str, instead: &str) -> String {
        let mut script = match &self.inputs.ssh {
            Some(ssh) => format!(
                "c={}\nexport c\ngit submodule foreach -q{deep} 'git config --local core.sshCommand \"$c\"'\n",
                self.ssh_command(ssh.strict)
            ),
            None => format!(
                "export o\ngit submodule foreach -q{deep} 'git config --local --unset-all \"url.$o/.insteadOf\"; \
                 git config --local --add \"url.$o/.insteadOf\" {instead}'\n"
            ),
        };
        if self.header.is_empty() {
            return script;
        }
        match self.inputs.keeps {
            Keeps::InConfig => {
                script += &format!(
                    "git submodule foreach -q{deep} 'git rev-parse --absolute-git-dir' | while read -r m; do cat >>\"$m/config\" <<'{id}'\n\
                     [http \"{}/\"]\n\textraheader = {}\n{id}\ndone\n",
                    self.origin,
                    self.header,
                    id = self.id
                );
            }
            Keeps::InFile => {
                let file = self.credentials();
                script += &format!(
                    "git submodule foreach -q{deep} 'git rev-parse --absolute-git-dir' | while read -r m; do r=${{m#\"$(pwd -P)/.git\"}}\n"
                );
                for (git_dir, temp) in &self.seen {
                    script += &format!(
                        "g config --file \"$m/config\" \"includeIf.gitdir:\"{}\"$r.path\" {}\n",
                        quote(git_dir),
                        quote(&format!("{temp}/{file}"))
                    );
                }
                script += "done\n";
            }
        }
        script
    }

    /// Takes the credentials out again, at the end of the job.
    pub(super) fn clean_up(&self) -> String {
        let mut script = self.prelude();
        script += "[ -f \"$d/.git/config\" ] && cd \"$d\" || exit 0\ng version\n\
                   mkdir -p \"$h\"\ntrap 'rm -rf -- \"$h\"' EXIT\n";
        if self.inputs.safe_directory {
            script += "echo \"Temporarily overriding HOME='$h' before making global git config changes\"\n\
                       echo 'Adding repository directory to the temporary git global config as a safe directory'\n\
                       g config --global --add safe.directory \"$d\"\n";
        }
        if self.inputs.ssh.is_some() {
            script += "echo \"Removing SSH key '$key'\"\n";
        }
        script += "g config --local --name-only --get-regexp 'core\\.sshCommand'\n\
                   g config --local --name-only --get-regexp \"http\\\\..*\\\\.extraheader\"\nunauth\nexit 0\n";
        script
    }
}

/// What belongs to one checkout besides its commits.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) modules: &'a [SentModule],
    /// The commit, and the working tree on top of it.
    pub(super) overlay: Option<(&'a str, &'a str)>,
    /// Some contents of git-lfs were not to be had here.
    pub(super) missing: bool,
    /// History ends at few commits.
    pub(super) is_short: bool,
}

/// A submodule whose objects were sent.
pub(super) struct SentModule {
    /// Its git directory, from the top of the checkout.
    pub(super) place: String,
    pub(super) url: String,
    pub(super) commit: String,
}

/// Adds a text to a file of git's, whose path is shell already. No secret: where `printf` is a program, others see its arguments.
fn append(text: &str, file: &str) -> String {
    format!("printf '%s' {} >>{file}\n", quote(text))
}

/// A value or a name as git's configuration files have it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A pattern of the shell for a name, whatever the case of its letters.
fn in_any_case(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' => format!("[{}{}]", letter.to_ascii_lowercase(), letter.to_ascii_uppercase()),
        other => quote(&other.to_string()),
    };
    name.chars().map(letter).collect()
}

/// The host of an address.
pub(super) fn host_of(origin: &str) -> &str {
    let authority = origin.split("://").nth(1).unwrap_or(origin);
    let authority = authority.split('/').next().unwrap_or_default();
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// The key of github.com, which the action trusts always.
const GITHUB_KEY: &str = "github.com ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCj7ndNxQowgcQnjshcLrqPEiiphnt+VTTvDP6mHBL9j1aNUkY4Ue1gvwnGLVlOhGeYrnZaMgRK6+PKCUXaDbC7qtbW8gIkhL7aGCsOr/C56SJMy/BCZfxd1nWzAOxSDPgVsmerOBYfNqltV9/hWCqBywINIR+5dIg6JTJ72pcEpEjcYgXkE2YEFXV1JHnsKgbLWNlhScqb2UmyRkQyytRLtL+38TGxkxCflmO+5Z8CSSNY7GidjMIZ7Q4zMjA2n1nGrlTDkzwDCsw+wqFPGQA179cnfGWOWRVruj16z6XyvxvjJwbz0wQZ75XK5tKSb7FNyeIEs4TT4jk+S4dhPeAUC5y+bDYirYgM4GC7uEnztnZyaVWQ7B381AK4Qdrwt51ZqExKbQpTUNn+EjqoTwvqNj4kqx5QUCI0ThS/YkOxJCXmPUWZbhjpCg56i+2aB6CmK2JGhn57K5mj0MNdBXA4/WnwH6XoPWJzK5Nyu2zB3nAZp+S5hpQs+p1vN1/wsjk=";
