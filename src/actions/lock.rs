//! `towline.lock`: which commit each version of an action means here.

use std::path::Path;

use toml::Value as Toml;

use super::{ActionsError, ResolvedAction};

/// The pins of a lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    pub pins: Vec<Pin>,
}

/// One version of one repository's actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// `OWNER/NAME`; compared without case.
    pub repository: String,
    pub reference: String,
    pub commit: String,
    /// The id of the commit's tree; it says the same of a repository whose history was rewritten.
    pub tree: Option<String>,
}

impl LockFile {
    /// Reads a lock file; nothing when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or says something else than pins.
    pub fn read(path: &Path) -> Result<Option<Self>, ActionsError> {
        let failed = |reason: String| ActionsError::LockFile { path: path.to_owned(), reason };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mut pins = Vec::new();
        for (key, value) in &file {
            let (Toml::Array(entries), "action") = (value, key.as_str()) else {
                return Err(format!("unknown key `{key}`: there are only `[[action]]` sections"));
            };
            for entry in entries {
                let text = |key: &str| entry.get(key).and_then(Toml::as_str).map(str::to_owned);
                let needed = |key: &str| text(key).ok_or_else(|| format!("an `[[action]]` has no `{key}`"));
                pins.push(Pin {
                    repository: needed("repository")?,
                    reference: needed("ref")?,
                    commit: needed("commit")?,
                    tree: text("tree"),
                });
            }
        }
        Ok(Self { pins })
    }

    /// The pin of a version.
    #[must_use]
    pub fn pin(&self, owner: &str, name: &str, reference: &str) -> Option<&Pin> {
        let repository = format!("{owner}/{name}");
        self.pins.iter().find(|pin| pin.repository.eq_ignore_ascii_case(&repository) && pin.reference == reference)
    }

    /// Adds or replaces the pin of an action.
    pub fn set(&mut self, action: &ResolvedAction) {
        let repository = format!("{}/{}", action.owner, action.name);
        self.pins.retain(|pin| !pin.repository.eq_ignore_ascii_case(&repository) || pin.reference != action.reference);
        self.pins.push(Pin {
            repository,
            reference: action.reference.clone(),
            commit: action.commit.clone(),
            tree: Some(action.tree.clone()),
        });
        self.pins.sort_by_key(|pin| (pin.repository.to_lowercase(), pin.reference.clone()));
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let quoted = |text: &str| Toml::String(text.to_owned()).to_string();
        let mut out =
            "# Written by `towline actions lock`. Which commit each version of an action means here.\n".to_owned();
        for pin in &self.pins {
            out.push_str(&format!(
                "\n[[action]]\nrepository = {}\nref = {}\ncommit = {}\n",
                quoted(&pin.repository),
                quoted(&pin.reference),
                quoted(&pin.commit)
            ));
            if let Some(tree) = &pin.tree {
                out.push_str(&format!("tree = {}\n", quoted(tree)));
            }
        }
        out
    }
}
