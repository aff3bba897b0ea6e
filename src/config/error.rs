//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

use super::Options;

/// A configuration that cannot be used. The message names the key (and its flag), what was given and
/// what would be right; for a mistake in a file, also the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{place}: not TOML: {reason}")]
    Syntax {
        /// Where the reader stopped.
        place: Place,
        /// What it stopped at.
        reason: String,
    },
    /// The file has a key or section that does not exist.
    #[error("{place}: unknown key `{key}`: {hint}")]
    UnknownKey {
        /// Where the key stands.
        place: Place,
        /// The key, with its section.
        key: String,
        /// The nearest valid key, or the valid ones.
        hint: String,
    },
    /// A value in the file is of the wrong type or form.
    #[error("{place}: {key}: {reason}")]
    Value {
        /// Where the value stands.
        place: Place,
        /// The key, with its section.
        key: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// A value is well formed but cannot be used.
    #[error("{key} = {given}: {hint}")]
    Unusable {
        /// The key.
        key: Key,
        /// Its value.
        given: String,
        /// Why not, and what would be right.
        hint: String,
    },
    /// A key is missing that another one requires.
    #[error("{key} is missing: {hint}")]
    Missing {
        /// The missing key.
        key: Key,
        /// What requires it, and what would be right.
        hint: String,
    },
    /// Two keys do not go together.
    #[error("{} and {} do not go together: {hint}", keys[0], keys[1])]
    Conflict {
        /// The keys.
        keys: [Key; 2],
        /// Why not, and what would be right.
        hint: String,
    },
}

impl ConfigError {
    pub(super) fn unusable(key: Key, given: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::Unusable { key, given: given.to_string(), hint: hint.into() }
    }

    pub(super) fn missing(key: Key, hint: impl Into<String>) -> Self {
        Self::Missing { key, hint: hint.into() }
    }

    pub(super) fn conflict(first: Key, second: Key, hint: impl Into<String>) -> Self {
        Self::Conflict { keys: [first, second], hint: hint.into() }
    }
}

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// A configuration key with its section, such as `heap.size`. `Display` adds the flag that sets it,
/// since a resolved value may come from either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub(super) &'static str);

impl Key {
    /// The key as TOML has it.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The flag that sets it, without the dashes.
    pub fn flag(self) -> Option<String> {
        let flags = Options::augment_args(clap::Command::new(""));
        let flag = flags.get_arguments().find(|flag| flag.get_id() == self.0)?;
        flag.get_long().map(str::to_owned)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag() {
            Some(flag) => write!(f, "{} (--{flag})", self.0),
            None => f.write_str(self.0),
        }
    }
}
