//! What is read around containers: images, volumes, ports, options, and what the engine prints about them (D1, D2, A4).
//!
//! Pure: no I/O, no clock, no async.

/// A port of a container and the host's port that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortMapping {
    pub container: String,
    pub protocol: String,
    pub host: String,
}

/// The lines of `docker port ID` (`5432/tcp -> 0.0.0.0:32768`); what is none is left out.
#[must_use]
pub fn ports<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<PortMapping> {
    lines.into_iter().filter_map(port).collect()
}

fn port(line: &str) -> Option<PortMapping> {
    let (target, address) = line.trim().split_once(" -> ")?;
    let (container, protocol) = target.split_once('/')?;
    let (_, host) = address.rsplit_once(':')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = number(container) && number(host) && !protocol.is_empty();
    fits.then(|| PortMapping { container: container.to_owned(), protocol: protocol.to_owned(), host: host.to_owned() })
}

/// `PATH` among the lines of an image's environment; empty when it is not there.
#[must_use]
pub fn path_of<'a>(environment: impl IntoIterator<Item = &'a str>) -> &'a str {
    environment.into_iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default()
}

/// Whether `runs.image` of an action is a file to build from: its name begins with `Dockerfile.` or ends with
/// `Dockerfile`, in any case of letters.
#[must_use]
pub fn is_dockerfile(image: &str) -> bool {
    if image.to_ascii_lowercase().starts_with("docker://") {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    name.starts_with("dockerfile.") || name.ends_with("dockerfile")
}

/// The registry in an image's name; empty for the engine's default one. A first part without a dot and without a port
/// is no host.
#[must_use]
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains('.') || host.contains(':') => host,
        _ => "",
    }
}

/// A volume as `volumes` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// A path or a volume's name; empty for one without a name.
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// Reads `source:target[:mode]`, or a target alone.
#[must_use]
pub fn volume(text: &str) -> Volume {
    let mut parts: Vec<&str> = text.split(':').collect();
    let read_only = parts.len() > 1 && parts.last().is_some_and(|mode| mode.split(',').any(|word| word == "ro"));
    if read_only || parts.len() > 2 {
        parts.pop();
    }
    let target = parts.pop().unwrap_or_default().to_owned();
    Volume { source: parts.join(":"), target, read_only }
}

/// Letters, digits and `_` of an image's name, for the name of its container.
#[must_use]
pub fn plain_name(image: &str) -> String {
    image.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

/// Splits `options`, `args` and `command` into words: at white space, where double quotes keep words together and `\"`
/// is a quote, as GitHub's runner does it. Beyond it, single quotes that are closed again keep words together too, since
/// that is what their author meant; one that is not is a plain character.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' if rest.as_str().starts_with('"') => {
                rest.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\'' if !quoted && word.as_ref().is_none_or(|word| word.ends_with('=')) && rest.as_str().contains('\'') => {
                let word = word.get_or_insert_default();
                word.extend(rest.by_ref().take_while(|&character| character != '\''));
            }
            space if space.is_ascii_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let read =
            ports(["80/tcp -> 0.0.0.0:32881", "53/udp -> [::]:53", "", "x/tcp -> 0.0.0.0:1", "80/tcp", "1/tcp -> a:"]);
        let expect = [("80", "tcp", "32881"), ("53", "udp", "53")];
        let read: Vec<_> = read.iter().map(|port| (&*port.container, &*port.protocol, &*port.host)).collect();
        assert_eq!(read, expect);
    }

    #[test]
    fn registries_are_named_by_images() {
        let check = |image: &str, registry: &str| assert_eq!(registry_of(image), registry, "{image}");
        check("ubuntu", "");
        check("owner/image:1", "");
        check("localhost/image", "");
        check("localhost:5000/image", "localhost:5000");
        check("ghcr.io/owner/image", "ghcr.io");
    }

    #[test]
    fn words_are_kept_together_by_quotes() {
        let check = |text: &str, expect: &[&str]| assert_eq!(words(text), expect, "{text}");
        check("", &[]);
        check(" --cpus 1\n--memory  2g ", &["--cpus", "1", "--memory", "2g"]);
        check("--health-cmd=\"mysqladmin ping\" -x \"\"", &["--health-cmd=mysqladmin ping", "-x", ""]);
        check("--health-cmd 'a b' --x='c d'", &["--health-cmd", "a b", "--x=c d"]);
        check("say \"it's\" don't", &["say", "it's", "don't"]);
        check("a \\\"b 'c", &["a", "\"b", "'c"]);
        check("-c 'uname -a'", &["-c", "uname -a"]);
    }

    #[test]
    fn volumes_are_read() {
        let check = |text: &str, source: &str, target: &str, read_only: bool| {
            assert_eq!(volume(text), Volume { source: source.into(), target: target.into(), read_only }, "{text}");
        };
        check("/target", "", "/target", false);
        check("name:/target", "name", "/target", false);
        check("/a:/b:ro", "/a", "/b", true);
        check("/a:/b:z,ro", "/a", "/b", true);
        check("/a:/b:z", "/a", "/b", false);
    }
}
