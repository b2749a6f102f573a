//! Keys, the tokens they sign, and signed addresses.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{Job, Scopes, ServicesError, hex, make_directory, write_file};

/// How much longer than the time its job may take a token holds. While the job runs it holds anyway, whatever the clock says.
const GRACE_SECONDS: i64 = 600;

/// The keys of the services.
pub(super) struct Keys {
    /// Signs tokens and addresses that only we read.
    secret: Vec<u8>,
    /// Sign identity tokens: the last one signs, all are published.
    identity: Vec<IdentityKey>,
}

struct IdentityKey {
    id: String,
    private: EncodingKey,
    public: Jwk,
}

/// Who calls: what a runtime token proves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Caller {
    /// What GitHub's toolkit reads: `Actions.Results:RUN:JOB`.
    scp: String,
    /// What docker's toolkit and BuildKit's cache read, both of which refuse a token without it: the scopes of caches, as JSON in
    /// a text.
    #[serde(default)]
    ac: String,
    pub(super) run: u64,
    pub(super) job: u64,
    pub(super) repository: String,
    pub(super) write: Option<String>,
    pub(super) read: Vec<String>,
    /// Where the caller reaches us.
    pub(super) base: String,
    #[serde(rename = "use")]
    purpose: String,
    exp: i64,
    iat: i64,
    /// BuildKit wants it, and has not come to it yet on a host whose clock is behind.
    #[serde(default)]
    nbf: i64,
}

impl Caller {
    pub(super) fn scopes(&self) -> Scopes {
        Scopes { write: self.write.clone(), read: self.read.clone() }
    }
}

/// `[{"Scope":"refs/heads/main","Permission":3}]`: 1 reads, 3 writes too.
fn access_controls(scopes: &Scopes) -> String {
    let own = scopes.write.iter().map(|scope| (scope, 3));
    let others = scopes.read.iter().filter(|scope| scopes.write.as_ref() != Some(*scope)).map(|scope| (scope, 1));
    let list = own.chain(others).map(|(scope, permission)| json!({ "Scope": scope, "Permission": permission }));
    Json::Array(list.collect()).to_string()
}

/// Who asks for an identity token, and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct IdentityRequest {
    pub(super) claims: Map<String, Json>,
    /// Tokens of earlier versions do not say it.
    job: Option<u64>,
    #[serde(rename = "use")]
    purpose: String,
    exp: i64,
    iat: i64,
}

impl Keys {
    pub(super) fn open(directory: &Path) -> Result<Self, ServicesError> {
        make_directory(directory)?;
        let secret_path = directory.join("secret");
        let failed = |path: &Path, reason: String| ServicesError::Key { path: path.to_owned(), reason };
        let secret = match std::fs::read(&secret_path) {
            Ok(secret) if secret.len() >= 32 => secret,
            Ok(_) => return Err(failed(&secret_path, "it is too short".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut secret = vec![0; 32];
                aws_lc_rs::rand::fill(&mut secret).map_err(|error| failed(&secret_path, error.to_string()))?;
                write_file(&secret_path, &secret)?;
                secret
            }
            Err(error) => return Err(failed(&secret_path, error.to_string())),
        };
        let mut paths: Vec<_> = std::fs::read_dir(directory)
            .map_err(|error| failed(directory, error.to_string()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
            .collect();
        paths.sort();
        if paths.is_empty() {
            let path = directory.join("identity-000001.pem");
            let pem = generate().map_err(|reason| failed(&path, reason))?;
            write_file(&path, pem.as_bytes())?;
            paths.push(path);
        }
        let read = |path: &std::path::PathBuf| {
            let pem = std::fs::read(path).map_err(|error| failed(path, error.to_string()))?;
            IdentityKey::new(&pem).map_err(|reason| failed(path, reason))
        };
        Ok(Self { secret, identity: paths.iter().map(read).collect::<Result<_, _>>()? })
    }

    pub(super) fn runtime_token(&self, job: &Job, now: Timestamp) -> String {
        self.sign(&Caller {
            scp: format!("Actions.Results:{}:{}", job.run, job.job),
            ac: access_controls(&job.scopes),
            run: job.run,
            job: job.job,
            repository: job.repository.clone(),
            write: job.scopes.write.clone(),
            read: job.scopes.read.clone(),
            base: job.base.clone(),
            purpose: "runtime".to_owned(),
            exp: job.until.as_second() + GRACE_SECONDS,
            iat: now.as_second(),
            nbf: now.as_second() - GRACE_SECONDS,
        })
    }

    pub(super) fn caller(&self, token: &str, now: Timestamp, runs: impl FnOnce(u64) -> bool) -> Option<Caller> {
        let caller: Caller = self.verify(token)?;
        (caller.purpose == "runtime" && (now.as_second() < caller.exp || runs(caller.job))).then_some(caller)
    }

    pub(super) fn identity_request_token(&self, job: &Job, now: Timestamp) -> Option<String> {
        let claims = job.identity.clone()?;
        Some(self.sign(&IdentityRequest {
            claims,
            job: Some(job.job),
            purpose: "identity".to_owned(),
            exp: job.until.as_second() + GRACE_SECONDS,
            iat: now.as_second(),
        }))
    }

    pub(super) fn identity_request(
        &self,
        token: &str,
        now: Timestamp,
        runs: impl FnOnce(u64) -> bool,
    ) -> Option<IdentityRequest> {
        let request: IdentityRequest = self.verify(token)?;
        let held = now.as_second() < request.exp || request.job.is_some_and(runs);
        (request.purpose == "identity" && held).then_some(request)
    }

    /// An identity token with these claims.
    pub(super) fn identity_token(&self, claims: &Map<String, Json>) -> Option<String> {
        let key = self.identity.last()?;
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &key.private).ok()
    }

    pub(super) fn public_keys(&self) -> Vec<Json> {
        self.identity.iter().filter_map(|key| serde_json::to_value(&key.public).ok()).collect()
    }

    /// What proves that an address was given by us, for one purpose, one thing and until one second.
    pub(super) fn signature(&self, purpose: &str, id: &str, until: i64) -> String {
        hex(hmac::sign(&self.hmac(), signed(purpose, id, until).as_bytes()).as_ref())
    }

    pub(super) fn is_signed(&self, purpose: &str, id: &str, until: i64, signature: &str, now: Timestamp) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        now.as_second() < until && hmac::verify(&self.hmac(), signed(purpose, id, until).as_bytes(), &signature).is_ok()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.secret)
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        let key = EncodingKey::from_secret(&self.secret);
        jsonwebtoken::encode(&Header::default(), claims, &key)
            .expect("our claims are JSON and the key is a byte string")
    }

    pub(super) fn verify<T: serde::de::DeserializeOwned + Clone>(&self, token: &str) -> Option<T> {
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would read the machine's clock; the callers compare with ours.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_secret(&self.secret);
        jsonwebtoken::decode::<T>(token, &key, &validation).ok().map(|token| token.claims)
    }
}

impl IdentityKey {
    fn new(pem: &[u8]) -> Result<Self, String> {
        let private = EncodingKey::from_rsa_pem(pem).map_err(|error| error.to_string())?;
        let mut public = Jwk::from_encoding_key(&private, Algorithm::RS256).map_err(|error| error.to_string())?;
        let text = serde_json::to_string(&public.algorithm).map_err(|error| error.to_string())?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let id = hex(&digest.as_ref()[..16]);
        public.common.key_id = Some(id.clone());
        public.common.key_algorithm = Some(KeyAlgorithm::RS256);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { id, private, public })
    }
}

fn generate() -> Result<String, String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|error| error.to_string())?;
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

fn signed(purpose: &str, id: &str, until: i64) -> String {
    format!("{purpose}\n{id}\n{until}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
