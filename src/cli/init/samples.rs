//! The shelf of sample workflows, which are part of the program.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::output::{say, table};
use super::super::{INVALID, SUCCESS};
use crate::diagnostic::nearest;

/// The names and texts, in the order of the shelf.
const SHELF: &[(&str, &str)] = &[
    ("node-ci", include_str!("../../../workflows/node-ci.yml")),
    ("python-ci", include_str!("../../../workflows/python-ci.yml")),
    ("rust-ci", include_str!("../../../workflows/rust-ci.yml")),
    ("matrix", include_str!("../../../workflows/matrix.yml")),
    ("lan-ci", include_str!("../../../workflows/lan-ci.yml")),
    ("e2e", include_str!("../../../workflows/e2e.yml")),
    ("deploy", include_str!("../../../workflows/deploy.yml")),
    ("rolling-update", include_str!("../../../workflows/rolling-update.yml")),
    ("release", include_str!("../../../workflows/release.yml")),
    ("nightly", include_str!("../../../workflows/nightly.yml")),
    ("backup", include_str!("../../../workflows/backup.yml")),
    ("gpu", include_str!("../../../workflows/gpu.yml")),
    ("llm-review", include_str!("../../../workflows/llm-review.yml")),
];

/// Where it is put: the first of the usual directories that is there.
const PLACES: &[&str] = &[".towline/workflows", ".github/workflows"];

/// Puts a sample into the project of the current directory, or lists all.
pub(super) fn install(name: &str, force: bool) -> Result<u8> {
    if name == "list" {
        let rows: Vec<Vec<String>> = SHELF.iter().map(|(name, text)| vec![(*name).to_owned(), summary(text)]).collect();
        say(&table(&rows))?;
        return Ok(SUCCESS);
    }
    let Some((name, text)) = SHELF.iter().find(|(known, _)| *known == name.trim_end_matches(".yml")) else {
        let names: Vec<&str> = SHELF.iter().map(|(name, _)| *name).collect();
        let hint = nearest(name, names.iter().copied())
            .map_or_else(|| names.join(", "), |near| format!("did you mean {near}?"));
        say(&format!("There is no sample {name}; {hint}\n"))?;
        return Ok(INVALID);
    };
    let project = project();
    let place = PLACES.iter().map(|place| project.join(place)).find(|place| place.is_dir());
    let place = place.unwrap_or_else(|| project.join(PLACES[1]));
    let file = place.join(format!("{name}.yml"));
    if file.exists() && !force {
        say(&format!("{} is there already; --force replaces it.\n", file.display()))?;
        return Ok(INVALID);
    }
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("wrote {}\nTry it here and now: towline exec {name}\n", file.display()))?;
    Ok(SUCCESS)
}

/// The top of the repository that the current directory is in, else the directory itself.
fn project() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    here.ancestors().find(|directory| directory.join(".git").exists()).map_or_else(|| here.clone(), Path::to_owned)
}

/// The first sentence of the comment that a sample begins with.
fn summary(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' '])).collect();
    let comment = lines.join(" ");
    comment.split_once(". ").map_or(comment.as_str(), |(first, _)| first).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_is_complete_and_every_sample_says_what_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().strip_suffix(".yml").map(str::to_owned))
            .collect();
        let mut shelf: Vec<String> = SHELF.iter().map(|(name, _)| (*name).to_owned()).collect();
        files.sort();
        shelf.sort();
        assert_eq!(files, shelf);
        for (name, text) in SHELF {
            assert!(summary(text).len() > 20, "{name}");
        }
    }
}
