//! Labels: what `runs-on` asks for and what a host offers (S5).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What labels that no host carries stand for: `ubuntu-latest` → any Linux host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelMap {
    /// Label in lower case → labels wanted instead. An empty list lets any host do.
    exact: BTreeMap<String, Vec<String>>,
}

impl Default for LabelMap {
    /// GitHub's hosted images by their operating system.
    fn default() -> Self {
        Self { exact: BTreeMap::new() }
    }
}

impl LabelMap {
    /// A map with configured entries; they go before the built-in meaning of GitHub's names.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        Self { exact: entries.into_iter().map(|(label, wanted)| (label.to_lowercase(), wanted)).collect() }
    }

    /// The labels a host must have for `label`, in lower case; `None` when the label stands for itself.
    #[must_use]
    pub fn meaning(&self, label: &str) -> Option<Vec<String>> {
        let label = label.to_lowercase();
        if let Some(wanted) = self.exact.get(&label) {
            return Some(wanted.iter().map(|wanted| wanted.to_lowercase()).collect());
        }
        hosted_image(&label)
    }
}

/// The operating system and processor behind the names of GitHub's own images.
fn hosted_image(label: &str) -> Option<Vec<String>> {
    let (system, version) = label.split_once('-')?;
    let system = match system {
        "ubuntu" => "linux",
        "macos" => "macos",
        "windows" => "windows",
        _ => return None,
    };
    let mut words = version.split('-');
    let release = words.next().unwrap_or_default();
    if release != "latest" && release != "slim" && !release.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    // `ubuntu-24.04-arm` and `windows-11-arm` ask for ARM; `macos-13`, `-large`, `-xlarge` leave the processor open.
    let mut wanted = vec![system.to_owned()];
    if words.any(|word| word == "arm" || word == "arm64") {
        wanted.push("arm64".to_owned());
    }
    Some(wanted)
}

/// A set of labels in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Labels(pub(super) BTreeSet<String>);

impl Labels {
    pub(super) fn new<'a>(labels: impl IntoIterator<Item = &'a str>) -> Self {
        Self(labels.into_iter().map(|label| label.trim().to_lowercase()).collect())
    }

    /// The labels of `self` that `offered` has neither itself nor by `map`.
    pub(super) fn missing(&self, offered: &Labels, map: &LabelMap) -> Vec<String> {
        self.0
            .iter()
            .filter(|label| {
                !offered.0.contains(*label)
                    && !map.meaning(label).is_some_and(|wanted| wanted.iter().all(|wanted| offered.0.contains(wanted)))
            })
            .cloned()
            .collect()
    }
}
