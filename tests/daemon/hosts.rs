//! A host that is added on the page: its key is shown, accepted, the host is probed, written down, and takes jobs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::{Lab, PATIENCE};
use crate::support::sshd::{self, Sshd};

impl Lab {
    /// Sends a form of a page; status and body.
    fn send(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let page = self.body("/hosts/add").expect("the form");
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let mut form = format!("csrf={}", encode(csrf));
        for (name, value) in fields {
            form.push_str(&format!("&{name}={}", encode(value)));
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.address,
            form.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[test]
fn a_host_is_added_and_tested_on_its_page() {
    let Some(server) = Sshd::start() else { return };
    let lab = Lab::new("");
    std::fs::create_dir_all(lab.path(".ssh")).unwrap();
    for name in ["id", "id.pub"] {
        let to = lab.path(".ssh").join(name.replace("id", "id_ed25519"));
        std::fs::copy(server.path(name), to).unwrap();
    }
    let key = std::fs::read_to_string(server.path("id.pub")).unwrap();
    assert!(lab.body("/hosts/add").unwrap().contains(key.trim()), "what the host has to let in is shown");
    let destination = format!("{}@127.0.0.1:{}", sshd::user(), server.port());
    let new = [("destination", destination.as_str()), ("name", "cellar"), ("slots", "2"), ("labels", "gpu, e2e")];

    // The key is shown first; nothing is written yet.
    let (status, page) = lab.send("/hosts/add", &new);
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("Is this the key of cellar?"), "{page}");
    let shown = page.split("name=\"accept\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(shown.starts_with("SHA256:"), "{shown}");
    let shown = shown.replace("&#43;", "+").replace("&#x2b;", "+").replace("&#47;", "/");
    assert!(!lab.path("conf.d/hosts.toml").exists());
    // Another key than the one that was looked at is refused.
    let wrong = format!("SHA256:{}", "A".repeat(43));
    let (_, page) = lab.send("/hosts/add", &[&new[..], &[("accept", wrong.as_str())]].concat());
    assert!(page.contains("role=\"alert\"") && !page.contains("is added"), "{page}");
    assert!(!lab.path("conf.d/hosts.toml").exists());

    let (_, page) = lab.send("/hosts/add", &[&new[..], &[("accept", shown.as_str())]].concat());
    assert!(page.contains("cellar is added") && page.contains("can run: "), "{page}");
    let written = std::fs::read_to_string(lab.path("conf.d/hosts.toml")).unwrap();
    assert!(written.contains("name = \"cellar\"") && written.contains("labels = [\"gpu\", \"e2e\"]"), "{written}");
    // The daemon takes it up by itself.
    lab.eventually("the host", |lab| {
        let hosts = lab.get("/api/v3/towline/hosts").unwrap();
        hosts["hosts"].as_array().unwrap().iter().any(|host| host["name"] == "cellar" && host["state"] == "free")
    });
    let (_, page) = lab.send("/hosts/test", &[("host", "cellar")]);
    assert!(page.contains("It answers"), "{page}");
    let (_, page) = lab.send("/hosts/add", &new);
    assert!(page.contains("there is a host cellar already"), "{page}");
    // One that is not there says so in words.
    let nowhere = format!("ci@127.0.0.1:{}", sshd::free_port());
    let (_, page) = lab.send("/hosts/add", &[("destination", nowhere.as_str()), ("name", "attic")]);
    assert!(page.contains("nothing listens at 127.0.0.1:"), "{page}");
    let (status, _) = lab.send("/hosts/test", &[("host", "attic")]);
    assert_eq!(status, 404);
}
