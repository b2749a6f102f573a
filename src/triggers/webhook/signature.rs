//! Who sent it? Signatures and tokens of the forges, compared in constant time over the raw body.

use aws_lc_rs::{constant_time, digest as hash, hmac};
use axum::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

/// Who sends webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    GitHub,
    Gitea,
    Forgejo,
    GitLab,
}

impl Forge {
    /// The word in the address.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::GitHub, Self::Gitea, Self::Forgejo, Self::GitLab].into_iter().find(|forge| forge.word() == word)
    }

    /// The word in the address.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::GitLab => "gitlab",
        }
    }

    /// Whether a delivery brings anything that could prove where it is from.
    pub(super) fn has_proof(self, headers: &HeaderMap) -> bool {
        let names: &[&str] = match self {
            Self::GitHub => &["x-hub-signature-256"],
            Self::Gitea | Self::Forgejo => &["x-forgejo-signature", "x-gitea-signature"],
            Self::GitLab => &["x-gitlab-token"],
        };
        names.iter().any(|name| headers.contains_key(*name))
    }

    /// The name of the event, in the forge's own word.
    pub(super) fn event<'a>(self, header: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let names: &[&str] = match self {
            Self::GitHub => &["x-github-event"],
            Self::Gitea | Self::Forgejo => &["x-forgejo-event", "x-gitea-event"],
            Self::GitLab => &["x-gitlab-event"],
        };
        names.iter().find_map(|name| header(name)).filter(|event| !event.is_empty()).map(str::to_owned)
    }

    /// What the sender calls this delivery.
    pub(super) fn delivery<'a>(self, header: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let names: &[&str] = match self {
            Self::GitHub => &["x-github-delivery"],
            Self::Gitea | Self::Forgejo => &["x-forgejo-delivery", "x-gitea-delivery"],
            Self::GitLab => &["idempotency-key", "x-gitlab-event-uuid"],
        };
        let id = names.iter().find_map(|name| header(name)).filter(|id| !id.is_empty() && id.len() <= 200);
        id.map(str::to_owned)
    }
}

/// Whether a delivery proves that its sender knows one of the secrets. SHA-1 signatures prove nothing any more.
#[must_use]
pub fn verify<'a>(
    forge: Forge,
    header: &impl Fn(&str) -> Option<&'a str>,
    body: &[u8],
    secrets: &[SecretString],
) -> bool {
    // An empty secret is one that everybody knows.
    let mut secrets = secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    let given = match forge {
        Forge::GitHub => header("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256=")),
        Forge::Gitea | Forge::Forgejo => header("x-forgejo-signature").or_else(|| header("x-gitea-signature")),
        Forge::GitLab => {
            let Some(token) = header("x-gitlab-token") else { return false };
            return secrets.any(|secret| equal(token.as_bytes(), secret.as_bytes()));
        }
    };
    let Some(signature) = given.and_then(from_hex) else { return false };
    secrets.any(|secret| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body, &signature).is_ok())
}

/// Compares digests, so that not even the length of the secret shows in the time.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let digest = |bytes: &[u8]| hash::digest(&hash::SHA256, bytes);
    constant_time::verify_slices_are_equal(digest(one).as_ref(), digest(other).as_ref()).is_ok()
}

/// An id for a delivery that has none.
pub(super) fn digest(event: &str, body: &[u8]) -> String {
    let mut context = hash::Context::new(&hash::SHA256);
    context.update(event.as_bytes());
    context.update(&[0]);
    context.update(body);
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
