//! How often files are sent.

use std::fmt;
use std::str::FromStr;

use super::program::{REPEAT, SOURCE};
use super::{InvalidValue, SettingsError, SourceKind};

/// How often files are sent, written as a number or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// This often, at least once.
    Times(u64),
    /// Without end.
    Forever,
}

impl Repeat {
    /// The number of times, if there is an end.
    pub fn times(self) -> Option<u64> {
        match self {
            Self::Times(times) => Some(times),
            Self::Forever => None,
        }
    }

    pub(super) fn resolve(given: Option<Self>, source: &SourceKind) -> Result<Self, SettingsError> {
        let repeat = given.unwrap_or_default();
        match source {
            SourceKind::Npy(_) | SourceKind::File(_) => Ok(repeat),
            _ if repeat == Self::default() => Ok(repeat),
            SourceKind::Stdin => {
                let hint = "standard input is read once; give a file, or drop the repetition";
                Err(SettingsError::conflict(REPEAT, SOURCE, hint))
            }
            SourceKind::Pattern | SourceKind::Random { .. } => {
                let hint = format!("{source} has no end; give a file, or a number of heaps");
                Err(SettingsError::conflict(REPEAT, SOURCE, hint))
            }
        }
    }
}

impl Default for Repeat {
    fn default() -> Self {
        Self::Times(1)
    }
}

impl FromStr for Repeat {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid =
            || InvalidValue::new(text, "a number of times", "write 1 or more, or forever");
        match text {
            "forever" => Ok(Self::Forever),
            _ => match text.parse() {
                Ok(times @ 1..) => Ok(Self::Times(times)),
                _ => Err(invalid()),
            },
        }
    }
}

impl fmt::Display for Repeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => times.fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_or_for_ever() {
        for wrong in ["0", "-1", "", "ever"] {
            let message = wrong.parse::<Repeat>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{wrong}` is not a number of times: write")));
        }
        assert_eq!("forever".parse(), Ok(Repeat::Forever));
        assert_eq!("3".parse(), Ok(Repeat::Times(3)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Repeat>();
        }
    }
}
