//! `towline trust`: the daemon's own authority, to print or to have this machine trust it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::output::{exit_code, say};
use crate::config::Paths;

/// Arguments of `towline trust`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Adds it to what this machine trusts; needs root. The other machines of the LAN take the printed file.
    #[arg(long)]
    install: bool,
    /// The certificate of an authority, when it is not that of this machine's daemon (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// Where systems keep authorities that were added by hand, and what makes them count.
const PLACES: [(&str, &str, &[&str]); 4] = [
    ("/usr/local/share/ca-certificates", "towline.crt", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", "towline.pem", &["update-ca-trust"]),
    ("/etc/ca-certificates/trust-source/anchors", "towline.crt", &["trust", "extract-compat"]),
    ("/etc/pki/trust/anchors", "towline.pem", &["update-ca-certificates"]),
];

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    exit_code(trust(arguments).map(|()| super::SUCCESS))
}

fn trust(arguments: &Arguments) -> Result<()> {
    let own = Paths::from_environment().state.join("tls/ca.pem");
    let text = match &arguments.certificate {
        Some(path) if path == Path::new("-") => std::io::read_to_string(std::io::stdin())?,
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => std::fs::read_to_string(&own).with_context(|| {
            format!(
                "cannot read {}: the daemon has no authority of its own (it serves no HTTPS, or with files of yours), \
                 or is another user's",
                own.display()
            )
        })?,
    };
    let certificate =
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| anyhow::anyhow!("that holds no certificate"))?;
    let fingerprint: Vec<String> =
        digest::digest(&digest::SHA256, &certificate).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let _ = writeln!(std::io::stderr(), "SHA-256 {}", fingerprint.join(":"));
    if !arguments.install {
        return say(&text);
    }
    let Some((folder, name, update)) = PLACES.iter().find(|(folder, ..)| Path::new(folder).is_dir()) else {
        bail!("this system keeps authorities elsewhere; print it and add it by hand");
    };
    let path = Path::new(folder).join(name);
    std::fs::write(&path, &text).with_context(|| format!("cannot write {} (are you root?)", path.display()))?;
    let status = Command::new(update[0]).args(&update[1..]).stdout(std::process::Stdio::null()).status();
    match status {
        Ok(status) if status.success() => say(&format!("{} is trusted by this machine.\n", path.display())),
        Ok(status) => bail!("{} is written, but {} ended with {status}", path.display(), update[0]),
        Err(error) => bail!("{} is written, but {} cannot be run: {error}", path.display(), update[0]),
    }
}
