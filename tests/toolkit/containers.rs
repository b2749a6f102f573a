//! Images, volumes, ports and paths as GitHub's runner reads them.

use serde_json::Value as Json;
use towline::toolkit::container::{is_dockerfile, path_of, ports, volume};

use super::{each_case, texts};
use crate::support::conformance;

#[test]
fn containers_are_read_as_by_githubs_runner() {
    let Some(folder) = conformance("containers") else { return };
    each_case(&folder.join("docker.json"), |case| {
        if let Some(image) = case["image"].as_str().filter(|_| case["is_dockerfile"].is_boolean()) {
            assert_eq!(Json::from(is_dockerfile(image)), case["is_dockerfile"]);
        } else if case["config_env"].is_array() {
            let lines = texts(&case["config_env"]);
            assert_eq!(Json::from(path_of(lines.iter().map(String::as_str))), case["path"]);
        } else if let Some(text) = case["volume"].as_str() {
            let volume = volume(text);
            assert_eq!(Json::from(volume.target), case["target"]);
            assert_eq!(volume.source, case["source"].as_str().unwrap_or_default());
            assert_eq!(Json::from(volume.read_only), case["read_only"]);
        } else {
            let lines = texts(&case["docker_port_output"]);
            let read = ports(lines.iter().map(String::as_str));
            let due = case["ports"].as_array().unwrap();
            assert_eq!(read.len(), due.len());
            // A port is told by numbers; which is which is said by the names of the fields.
            for (port, due) in read.iter().zip(due) {
                for value in due.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
                    assert!([&port.container, &port.host, &port.protocol].iter().any(|known| *known == value), "{due}");
                }
            }
        }
    });
}
