//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use doorbell::settings::SettingsError;

use super::rows;

/// A configuration that cannot be used. The message names the key and its flag, what was given and
/// what would be right; for a mistake in a file, also the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{line}: not TOML: {reason}")]
    Syntax {
        /// Where the reader stopped.
        line: Line,
        /// What it stopped at.
        reason: String,
    },
    /// The file has a key or section that does not exist.
    #[error("{line}: unknown key `{key}`: {hint}")]
    UnknownKey {
        /// Where the key stands.
        line: Line,
        /// The key, with its section.
        key: String,
        /// The nearest valid key, or the valid ones.
        hint: String,
    },
    /// A value in the file is of the wrong type or form.
    #[error("{line}: {key}: {reason}")]
    Value {
        /// Where the value stands.
        line: Line,
        /// The key, with its section.
        key: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// A flag has a value that it does not take.
    #[error("--{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: String,
        /// What was given and what is expected.
        reason: String,
    },
    /// Values are well formed but cannot be used.
    #[error("{}", with_flags(&.0.to_string()))]
    Settings(#[from] SettingsError),
}

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The line, from 1.
    pub number: usize,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.number)
    }
}

/// A message of the library, which names settings by their keys, with the flag behind each: a value may
/// come from either.
pub fn with_flags(message: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let mut words = Vec::new();
    for word in message.split(' ') {
        let end = word.trim_end_matches(|c: char| !is_part(c)).trim_end_matches('.');
        let row = rows().find(|row| row.key().as_str() == end);
        words.push(match row {
            Some(row) => format!("{end} (--{}){}", row.flag(), &word[end.len()..]),
            None => word.to_owned(),
        });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_get_their_flags() {
        assert_eq!(
            with_flags("pacing.rate and pacing.mode do not go together: drop stream.vlan, or"),
            "pacing.rate (--rate) and pacing.mode (--pacing) do not go together: drop stream.vlan (--vlan), or"
        );
        assert_eq!(with_flags("heap.size: 3"), "heap.size (--heap-size): 3");
        assert_eq!(
            with_flags("a file /etc/pacing.rate x.heap.size"),
            "a file /etc/pacing.rate x.heap.size"
        );
    }
}
