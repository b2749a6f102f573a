//! Files of known host keys, as OpenSSH writes and reads them: patterns, negation, hashed names, ports, `@revoked` and
//! `@cert-authority`. Text in, judgement out; reads no file.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// All entries of the files that apply to a host, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownHosts {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    marker: Marker,
    names: Names,
    algorithm: String,
    key: Vec<u8>,
    /// `FILE:LINE`.
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Plain,
    Authority,
    Revoked,
}

#[derive(Clone, Debug)]
enum Names {
    /// Patterns, and whether each is negated.
    Patterns(Vec<(bool, String)>),
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// What the files say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Known,
    /// Revoked at this place.
    Revoked(String),
    /// Other keys are recorded for the host, at this place.
    Changed(String),
    Unknown,
}

/// The name under which keys of a server are recorded.
pub(super) fn recorded_name(address: &str, port: u16) -> String {
    let address = address.to_ascii_lowercase();
    if port == 22 { address } else { format!("[{address}]:{port}") }
}

/// A line that records a key.
pub(super) fn line(address: &str, port: u16, openssh_key: &str) -> String {
    let key: Vec<&str> = openssh_key.split_whitespace().take(2).collect();
    format!("{} {}\n", recorded_name(address, port), key.join(" "))
}

impl KnownHosts {
    /// Adds the entries of a file. Lines that cannot be read are passed over, as OpenSSH does.
    pub(super) fn read(&mut self, file: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            self.entries.extend(entry(line, format!("{file}:{}", number + 1)));
        }
    }

    /// What is known of a server's key.
    pub(super) fn judge(&self, name: &str, key: &[u8]) -> Judgement {
        if let Some(place) = self.revoked(key) {
            return Judgement::Revoked(place);
        }
        let mut other = None;
        for entry in self.applying(name, Marker::Plain) {
            if entry.key == key {
                return Judgement::Known;
            }
            other.get_or_insert_with(|| entry.place.clone());
        }
        other.map_or(Judgement::Unknown, Judgement::Changed)
    }

    /// What is known of the authority that signed a server's certificate.
    pub(super) fn judge_authority(&self, name: &str, authority: &[u8]) -> Judgement {
        if let Some(place) = self.revoked(authority) {
            return Judgement::Revoked(place);
        }
        if self.applying(name, Marker::Authority).any(|entry| entry.key == authority) {
            Judgement::Known
        } else {
            Judgement::Unknown
        }
    }

    /// Whether any authority may sign for the host.
    pub(super) fn has_authority(&self, name: &str) -> bool {
        self.applying(name, Marker::Authority).next().is_some()
    }

    /// The algorithms of the keys recorded for the host, in order: they are to be asked for first, or a second key of the server
    /// looks like an unknown one.
    pub(super) fn algorithms(&self, name: &str) -> Vec<String> {
        self.applying(name, Marker::Plain).map(|entry| entry.algorithm.clone()).collect()
    }

    /// A revoked key is refused whatever name it is used under that the line covers.
    fn revoked(&self, key: &[u8]) -> Option<String> {
        let mut entries = self.entries.iter().filter(|entry| entry.marker == Marker::Revoked);
        entries.find(|entry| entry.key == key).map(|entry| entry.place.clone())
    }

    fn applying<'a>(&'a self, name: &'a str, marker: Marker) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.marker == marker && entry.names.cover(name))
    }
}

impl Names {
    fn cover(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let mut covered = false;
                for (negated, pattern) in patterns {
                    if matches(pattern.as_bytes(), name.as_bytes()) {
                        if *negated {
                            return false;
                        }
                        covered = true;
                    }
                }
                covered
            }
            Self::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
        }
    }
}

fn entry(line: &str, place: String) -> Option<Entry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut first = words.next()?;
    let marker = match first {
        "@cert-authority" => Marker::Authority,
        "@revoked" => Marker::Revoked,
        _ if first.starts_with('@') => return None,
        _ => Marker::Plain,
    };
    if marker != Marker::Plain {
        first = words.next()?;
    }
    let names = if let Some(hashed) = first.strip_prefix("|1|") {
        let (salt, hash) = hashed.split_once('|')?;
        Names::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? }
    } else {
        let patterns = first.split(',').filter(|pattern| !pattern.is_empty());
        Names::Patterns(
            patterns
                .map(|pattern| match pattern.strip_prefix('!') {
                    Some(rest) => (true, rest.to_ascii_lowercase()),
                    None => (false, pattern.to_ascii_lowercase()),
                })
                .collect(),
        )
    };
    let algorithm = words.next()?.to_owned();
    let key = STANDARD.decode(words.next()?).ok()?;
    Some(Entry { marker, names, algorithm, key, place })
}

/// `*` and `?` as in OpenSSH: every other character, brackets too, is itself.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, from)) = star else { return false };
                at = place + 1;
                seen = from + 1;
                star = Some((place, seen));
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys are compared as bytes: any base64 does.
    const A: &str = "AAAA";
    const B: &str = "BBBB";

    fn judge(text: &str, name: &str, key: &str) -> Judgement {
        let mut known = KnownHosts::default();
        known.read("f", text);
        known.judge(name, &STANDARD.decode(key).expect("base64"))
    }

    #[test]
    fn entries_apply_as_in_openssh() {
        use Judgement::{Changed, Known, Revoked, Unknown};
        let changed = || Changed("f:1".to_owned());
        let cases = [
            ("h ssh-ed25519 AAAA", "h", A, Known),
            ("h,10.0.0.1   ssh-ed25519\tAAAA comment", "10.0.0.1", A, Known),
            ("H ssh-ed25519 AAAA", "h", A, Known),
            ("h ssh-ed25519 AAAA", "h", B, changed()),
            ("h ssh-ed25519 AAAA", "[h]:2222", A, Unknown),
            ("[h]:2222 ssh-ed25519 AAAA", "[h]:2222", A, Known),
            ("*.lan,!bad.lan ssh-ed25519 AAAA", "a.lan", A, Known),
            ("*.lan,!bad.lan ssh-ed25519 AAAA", "bad.lan", A, Unknown),
            ("h? ssh-ed25519 AAAA", "h1", A, Known),
            ("h? ssh-ed25519 AAAA", "h12", A, Unknown),
            ("# h ssh-ed25519 AAAA", "h", A, Unknown),
            ("@revoked * ssh-ed25519 AAAA\nh ssh-ed25519 AAAA", "h", A, Revoked("f:1".to_owned())),
            ("@cert-authority * ssh-ed25519 AAAA", "h", A, Unknown),
            ("@new h ssh-ed25519 AAAA", "h", A, Unknown),
            ("h ssh-ed25519 AAAA\nh ssh-rsa BBBB", "h", B, Known),
            ("h ssh-ed25519", "h", A, Unknown),
            ("|1|!!|!! ssh-ed25519 AAAA", "h", A, Unknown),
        ];
        for (text, name, key, expected) in cases {
            assert_eq!(judge(text, name, key), expected, "{text} {name} {key}");
        }
    }

    #[test]
    fn hashed_names_are_compared() {
        let salt = [7_u8; 20];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = hmac::sign(&key, b"[h]:2222");
        let text = format!("|1|{}|{} ssh-ed25519 AAAA", STANDARD.encode(salt), STANDARD.encode(hash));
        assert_eq!(judge(&text, "[h]:2222", A), Judgement::Known);
        assert_eq!(judge(&text, "h", A), Judgement::Unknown);
    }

    #[test]
    fn authorities_sign_for_the_hosts_of_their_line() {
        let mut known = KnownHosts::default();
        known.read("f", "@cert-authority *.lan ssh-ed25519 AAAA\nx.lan ssh-rsa BBBB");
        let key = STANDARD.decode(A).expect("base64");
        assert_eq!(known.judge_authority("x.lan", &key), Judgement::Known);
        assert_eq!(known.judge_authority("x.org", &key), Judgement::Unknown);
        assert!(known.has_authority("y.lan") && !known.has_authority("y.org"));
        assert_eq!(known.algorithms("x.lan"), ["ssh-rsa"]);
    }
}
