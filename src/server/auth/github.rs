//! Signing in through GitHub: what a browser carries on its way there and back, and the session it gets.
//!
//! Nothing is kept meanwhile: the cookie of the way is signed, and what GitHub needs to see twice (PKCE) is computed from it.

use super::{
    Auth, Client, Peer, PoisonError, Refusal, Timestamp, ToSpan as _, URL_SAFE_NO_PAD, Via, constant_time, cookie,
    digest, hmac, random,
};
use base64::Engine as _;
use http::HeaderMap;

use crate::config::GitHubLogin;

/// What stands before a login in a session's cookie, where others have the digest of a token.
pub(super) const PREFIX: &str = "github:";
const WAY_COOKIE: &str = "towline-login";

/// A browser on its way to GitHub.
pub struct Departure {
    /// What GitHub has to send back.
    pub state: String,
    /// The digest of what we show GitHub later.
    pub challenge: String,
    /// What the browser keeps meanwhile.
    pub cookie: String,
}

/// A browser that came back.
pub struct Arrival {
    pub verifier: String,
    /// Where it wanted to go.
    pub next: String,
}

impl Auth {
    /// How GitHub is asked, if it is.
    #[must_use]
    pub fn github(&self) -> Option<GitHubLogin> {
        self.admissions.read().unwrap_or_else(PoisonError::into_inner).github.clone()
    }

    /// Sends a browser on its way; it has ten minutes.
    #[must_use]
    pub fn depart(&self, now: Timestamp, peer: &Peer, next: &str) -> Departure {
        let state = URL_SAFE_NO_PAD.encode(random());
        let payload = format!("{state}.{}.{}", (now + 10.minutes()).as_second(), URL_SAFE_NO_PAD.encode(next));
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, format!("way.{payload}").as_bytes()));
        let secure = if peer.tls { "; Secure" } else { "" };
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.verifier(&state).as_bytes()));
        // Lax: it has to come along when GitHub sends the browser back.
        let cookie =
            format!("{WAY_COOKIE}={payload}.{mac}; Path=/login/github; HttpOnly; SameSite=Lax; Max-Age=600{secure}");
        Departure { state, challenge, cookie }
    }

    /// Checks that this browser is the one that was sent, with this state.
    #[must_use]
    pub fn arrive(&self, now: Timestamp, headers: &HeaderMap, state: &str) -> Option<Arrival> {
        let (payload, mac) = cookie(headers, WAY_COOKIE)?.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.key, format!("way.{payload}").as_bytes(), &mac).ok()?;
        let mut parts = payload.split('.');
        let (sent, until, next) = (parts.next()?, parts.next()?, parts.next()?);
        constant_time::verify_slices_are_equal(sent.as_bytes(), state.as_bytes()).ok()?;
        if until.parse::<i64>().ok()? < now.as_second() {
            return None;
        }
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        Some(Arrival { verifier: self.verifier(state), next })
    }

    /// The cookie of a session for a login that GitHub vouches for, if it is on the list.
    #[must_use]
    pub fn sign_in_github(&self, now: Timestamp, peer: &Peer, login: &str) -> Option<String> {
        let client = self.by_github(login)?;
        Some(self.session(now, peer, &format!("{PREFIX}{}", client.name)))
    }

    /// Counts a way that did not end well as a wrong guess.
    ///
    /// # Errors
    /// There were too many.
    pub fn lost_way(&self, now: Timestamp, peer: &Peer) -> Result<(), Refusal> {
        let super::Origin::Network(address) = peer.origin else { return Ok(()) };
        let address = address.ip().to_canonical();
        if self.is_blocked(now, address) {
            return Err(Refusal::TooManyFailures);
        }
        self.failed(now, address);
        Ok(())
    }

    pub(super) fn by_github(&self, login: &str) -> Option<Client> {
        let login = login.to_ascii_lowercase();
        let admissions = self.admissions.read().unwrap_or_else(PoisonError::into_inner);
        let role = *admissions.github.as_ref()?.allow.get(&login)?;
        Some(Client { name: login, role: role.into(), repositories: Vec::new(), via: Via::Session })
    }

    fn verifier(&self, state: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, format!("verifier.{state}").as_bytes()))
    }
}
