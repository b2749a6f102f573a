//! Newtypes for the ids and names that more than one room uses.
//!
//! Pure: no I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }
    };
}

number_id!(
    /// One run of one workflow; constant over its attempts. `github.run_id`.
    RunId
);
number_id!(
    /// One job (a matrix leg) of one attempt of one run; unique on this daemon. The API's job id.
    JobId
);
text_id!(
    /// The configured name of a host.
    HostName
);
text_id!(
    /// `OWNER/NAME` of a repository.
    RepositoryName
);

impl RepositoryName {
    /// The part before the slash; `local` when there is none.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.0.split_once('/').map_or("local", |(owner, _)| owner)
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// What stands for GitHub's number of a repository: made from the name.
    #[must_use]
    pub fn number(&self) -> u64 {
        stable_id(&["repository", self.as_str()])
    }
}

/// What stands for GitHub's number of a person: there are no accounts here, so it is made from the name.
#[must_use]
pub fn user_number(login: &str) -> u64 {
    stable_id(&["user", login])
}

/// A positive number that names `parts` for clients which want numbers (workflows, repositories, users). It fits the
/// 53 bits that JSON numbers keep in JavaScript.
#[must_use]
pub fn stable_id(parts: &[&str]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let first = digest.as_ref().first_chunk::<8>().expect("SHA-256 has 32 bytes");
    (u64::from_be_bytes(*first) >> 16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_for_names_are_stable_and_fit_javascript() {
        assert_eq!(stable_id(&["a", "b"]), stable_id(&["a", "b"]));
        assert_ne!(stable_id(&["a", "b"]), stable_id(&["ab", ""]));
        assert!(stable_id(&["x"]) < 1 << 53);
    }
}
