//! A repository for clients of the smart HTTP protocol: what git itself would do behind a web server.

use std::process::Stdio;

use tokio::process::Child;

use super::{Error, Git, Repository};

/// What a client wants of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Fetch and clone.
    UploadPack,
    /// Push.
    ReceivePack,
}

impl Service {
    /// `git-upload-pack`, `git-receive-pack`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::UploadPack),
            "git-receive-pack" => Some(Self::ReceivePack),
            _ => None,
        }
    }

    /// The name in addresses and content types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn action(self) -> &'static str {
        self.name().trim_start_matches("git-")
    }
}

/// Set for hooks of a push that must start nothing: a job pushed with its own token (T16).
pub const QUIET_PUSH: &str = "TOWLINE_QUIET_PUSH";
/// Tells hooks who pushes, where that is not the user they run as.
pub const PUSHER: &str = "TOWLINE_PUSHER";

impl Repository {
    /// The answer to `info/refs?service=…`. `protocol` is the client's `Git-Protocol` header.
    ///
    /// # Errors
    /// What git says.
    pub async fn advertise(&self, service: Service, protocol: Option<&str>) -> Result<Vec<u8>, Error> {
        let mut git = self.serving(service, protocol).await?;
        git.args(["--stateless-rpc", "--http-backend-info-refs"]).arg(self.git_dir());
        let refs = git.bytes().await?;
        if protocol.is_some_and(|protocol| protocol.split(':').any(|part| part == "version=2"))
            && service == Service::UploadPack
        {
            return Ok(refs);
        }
        let line = format!("# service={}\n", service.name());
        let mut answer = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
        answer.extend(refs);
        Ok(answer)
    }

    /// One request of the protocol: the child reads it on its standard input and answers on its standard output. Dropping
    /// it ends it. `told` is what hooks find in their environment.
    ///
    /// # Errors
    /// git cannot be started.
    pub async fn converse(
        &self,
        service: Service,
        protocol: Option<&str>,
        told: Option<(&str, &str)>,
    ) -> Result<Child, Error> {
        let mut git = self.serving(service, protocol).await?;
        git.arg("--stateless-rpc").arg(self.git_dir());
        if let Some((name, value)) = told {
            git.env(name, value);
        }
        spawn(git)
    }

    /// An archive of a commit below one directory, as `tar.gz` or `zip`: what GitHub gives for `tarball` and `zipball`.
    ///
    /// # Errors
    /// git cannot be started.
    pub fn download(&self, commit: &str, format: &str, prefix: &str) -> Result<Child, Error> {
        let mut git = self.git("archive");
        git.args([&format!("--format={format}"), &format!("--prefix={prefix}/"), commit]);
        spawn(git)
    }

    async fn serving(&self, service: Service, protocol: Option<&str>) -> Result<Git, Error> {
        let hooks = match service {
            Service::UploadPack => None,
            // A push runs the repository's own hooks: one of them tells us.
            Service::ReceivePack => Some(format!("core.hooksPath={}", self.hooks_directory().await?.display())),
        };
        let mut settings = vec![
            // A commit that a workflow was started for may have been left by its branch meanwhile.
            "uploadpack.allowAnySHA1InWant=true",
            "uploadpack.allowFilter=true",
            "http.receivepack=true",
            "safe.directory=*",
        ];
        settings.extend(hooks.as_deref());
        let mut git = Git::with_settings(service.action(), &settings);
        if let Some(protocol) = protocol.filter(|text| text.len() < 100 && text.is_ascii()) {
            git.env("GIT_PROTOCOL", protocol);
        }
        Ok(git)
    }
}

fn spawn(mut git: Git) -> Result<Child, Error> {
    git.command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::Start { source })
}
