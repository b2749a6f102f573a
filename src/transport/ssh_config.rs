//! The part of `ssh_config(5)` that decides where a connection goes and who it is: text in, values out.

use super::known_hosts::matches;

/// What the files say of one host. The first value found counts, as in OpenSSH; identity files add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) host_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identity_files: Vec<String>,
    pub(super) identities_only: bool,
    pub(super) known_hosts: Option<Vec<String>>,
    pub(super) strict: Option<Strict>,
    /// Hops in order; `none` is an empty list.
    pub(super) jump: Option<Vec<String>>,
}

/// `StrictHostKeyChecking`. `ask` has nobody to ask here and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strict {
    Refuse,
    AcceptNew,
    AcceptAny,
}

/// How deep `Include` may go.
const DEEPEST: u32 = 8;

impl Settings {
    /// Adds what a file says of a host. `include` gives the texts of the files that a pattern names.
    pub(super) fn read(&mut self, host: &str, text: &str, include: &dyn Fn(&str) -> Vec<String>) {
        self.read_at(host, text, include, 0);
    }

    fn read_at(&mut self, host: &str, text: &str, include: &dyn Fn(&str) -> Vec<String>, depth: u32) {
        let mut applies = true;
        for line in text.lines() {
            let words = words(line);
            let Some((key, values)) = words.split_first() else { continue };
            let Some(value) = values.first() else { continue };
            match key.to_ascii_lowercase().as_str() {
                "host" => applies = covers(values, host),
                // Of the conditions of Match only the one without a condition is understood.
                "match" => applies = value.eq_ignore_ascii_case("all"),
                _ if !applies => {}
                "include" if depth < DEEPEST => {
                    for text in values.iter().flat_map(|pattern| include(pattern)) {
                        self.read_at(host, &text, include, depth + 1);
                    }
                }
                "hostname" => first(&mut self.host_name, Some(value.replace("%h", host).replace("%%", "%"))),
                "port" => first(&mut self.port, value.parse().ok()),
                "user" => first(&mut self.user, Some(value.clone())),
                "identityfile" => self.identity_files.push(value.clone()),
                "identitiesonly" => self.identities_only |= value.eq_ignore_ascii_case("yes"),
                "userknownhostsfile" => first(&mut self.known_hosts, Some(values.to_vec())),
                "stricthostkeychecking" => first(&mut self.strict, strict(value)),
                "proxyjump" => first(&mut self.jump, Some(hops(value))),
                _ => {}
            }
        }
    }
}

fn first<T>(place: &mut Option<T>, value: Option<T>) {
    if place.is_none() {
        *place = value;
    }
}

fn strict(value: &str) -> Option<Strict> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "ask" => Some(Strict::Refuse),
        "accept-new" => Some(Strict::AcceptNew),
        "no" | "off" => Some(Strict::AcceptAny),
        _ => None,
    }
}

fn hops(value: &str) -> Vec<String> {
    if value.eq_ignore_ascii_case("none") {
        return Vec::new();
    }
    value.split(',').map(str::trim).filter(|hop| !hop.is_empty()).map(str::to_owned).collect()
}

fn covers(patterns: &[String], host: &str) -> bool {
    let mut covered = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(negated.as_bytes(), host.as_bytes()) => return false,
            Some(_) => {}
            None => covered |= matches(pattern.as_bytes(), host.as_bytes()),
        }
    }
    covered
}

/// `Key value`, `Key=value`, quoted values, comments.
fn words(line: &str) -> Vec<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return Vec::new();
    }
    let key_end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (key, rest) = line.split_at(key_end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut words = vec![key.to_owned()];
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    for letter in rest.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                open = true;
            }
            '#' if !quoted && !open && word.is_empty() => break,
            letter if letter.is_whitespace() && !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            letter => word.push(letter),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    if key.is_empty() { Vec::new() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str, text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.read(host, text, &|pattern| vec![format!("User from-{pattern}")]);
        settings
    }

    #[test]
    fn the_first_value_counts_and_patterns_decide() {
        let text = "
            # comment
            Host *.lan !bad.lan
              HostName=%h.example
              Port 2222
              IdentityFile ~/one
              IdentityFile \"~/with space\"
              ProxyJump a@one:22,two
            Host bad.lan
              User bad
            Match host x
              User matched
            Host *
              Port 22
              User everyone
              UserKnownHostsFile ~/a ~/b
              StrictHostKeyChecking accept-new
        ";
        let settings = read("x.lan", text);
        assert_eq!(settings.host_name.as_deref(), Some("x.lan.example"));
        assert_eq!((settings.port, settings.user.as_deref()), (Some(2222), Some("everyone")));
        assert_eq!(settings.identity_files, ["~/one", "~/with space"]);
        assert_eq!(settings.jump, Some(vec!["a@one:22".to_owned(), "two".to_owned()]));
        assert_eq!(settings.known_hosts, Some(vec!["~/a".to_owned(), "~/b".to_owned()]));
        assert_eq!(settings.strict, Some(Strict::AcceptNew));
        let bad = read("bad.lan", text);
        assert_eq!((bad.port, bad.user.as_deref()), (Some(22), Some("bad")));
    }

    #[test]
    fn lines_are_read_as_openssh_reads_them() {
        assert_eq!(read("h", "ProxyJump none").jump, Some(Vec::new()));
        assert_eq!(read("h", "Include extra").user.as_deref(), Some("from-extra"));
        assert_eq!(read("h", "USER = root # why").user.as_deref(), Some("root"));
        assert_eq!(read("h", "Port x\nPort 23").port, Some(23));
        assert_eq!(read("h", "Match all\nUser m").user.as_deref(), Some("m"));
        assert_eq!(read("h", "=\n\"\nUser"), Settings::default());
    }
}
