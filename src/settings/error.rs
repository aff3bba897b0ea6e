//! What can be wrong with settings.

use std::fmt;

use super::Key;

/// Settings that cannot be used. The message names the keys, what was given and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// There is no such setting.
    #[error("there is no setting `{given}`")]
    Unknown {
        /// The key or keyword that was given.
        given: String,
    },
    /// A value is not of its setting's form.
    #[error("{key}: {reason}")]
    Value {
        /// The setting.
        key: Key,
        /// What was given and what is expected.
        reason: String,
    },
    /// A value is well formed but cannot be used.
    #[error("{key} = {given}: {hint}")]
    Unusable {
        /// The setting.
        key: Key,
        /// Its value.
        given: String,
        /// Why not, and what would be right.
        hint: String,
    },
    /// A setting is missing that another one requires.
    #[error("{key} is missing: {hint}")]
    Missing {
        /// The missing setting.
        key: Key,
        /// What requires it, and what would be right.
        hint: String,
    },
    /// Two settings do not go together.
    #[error("{} and {} do not go together: {hint}", keys[0], keys[1])]
    Conflict {
        /// The settings.
        keys: [Key; 2],
        /// Why not, and what would be right.
        hint: String,
    },
}

impl SettingsError {
    /// `key = given` cannot be used.
    pub fn unusable(key: Key, given: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::Unusable { key, given: given.to_string(), hint: hint.into() }
    }

    /// `key` is required, and missing.
    pub fn missing(key: Key, hint: impl Into<String>) -> Self {
        Self::Missing { key, hint: hint.into() }
    }

    /// Two settings do not go together.
    pub fn conflict(first: Key, second: Key, hint: impl Into<String>) -> Self {
        Self::Conflict { keys: [first, second], hint: hint.into() }
    }
}
