//! Where payload comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::InvalidValue;

/// Where payload comes from, written `pattern`, `random:SEED`, `FILE.npy`, `FILE` or `-`. A file that
/// bears one of the other names is written with its directory: `./pattern`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourceKind {
    /// The SPEAD tutorial's: every byte of a heap is the heap's index modulo 256.
    #[default]
    Pattern,
    /// Random bytes, the same for the same seed.
    Random {
        /// Where the generator starts.
        seed: u64,
    },
    /// An array written by numpy; its leading axis counts heaps.
    Npy(PathBuf),
    /// A file of bytes, cut into heaps.
    File(PathBuf),
    /// Standard input, cut into heaps.
    Stdin,
}

impl FromStr for SourceKind {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |hint| InvalidValue::new(text, "a source", hint);
        match text {
            "" => Err(invalid(
                "write pattern, random:SEED, the path of a file, or - for standard input",
            )),
            "pattern" => Ok(Self::Pattern),
            "-" => Ok(Self::Stdin),
            "random" => Err(invalid("give it a seed, random:1; a file of that name is ./random")),
            _ => match text.strip_prefix("random:") {
                Some(seed) => seed
                    .parse()
                    .map(|seed| Self::Random { seed })
                    .map_err(|_| invalid("its seed is a whole number, 0 or above: random:1")),
                None if text.ends_with(".npy") => Ok(Self::Npy(text.into())),
                None => Ok(Self::File(text.into())),
            },
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern => f.write_str("pattern"),
            Self::Random { seed } => write!(f, "random:{seed}"),
            Self::Npy(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_is_told_apart() {
        let parse = |text: &str| text.parse::<SourceKind>().unwrap();
        assert_eq!(parse("pattern"), SourceKind::Pattern);
        assert_eq!(parse("random:7"), SourceKind::Random { seed: 7 });
        assert_eq!(parse("frames/a.npy"), SourceKind::Npy("frames/a.npy".into()));
        assert_eq!(parse("./pattern"), SourceKind::File("./pattern".into()));
        assert_eq!(parse("-"), SourceKind::Stdin);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, hint) in [
            ("", "random:SEED, the path of a file, or - for standard input"),
            ("random", "give it a seed, random:1"),
            ("random:x", "a whole number, 0 or above"),
            ("random:-1", "a whole number, 0 or above"),
        ] {
            let message = text.parse::<SourceKind>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{text}` is not a source: ")), "{message}");
            assert!(message.contains(hint), "{message}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "pattern|-|random:(0|[1-9][0-9]{0,18})|[a-zé./ ]{1,20}(\\.npy)?") {
            prop_assume!(text != "random");
            prop_assert_eq!(text.parse::<SourceKind>().unwrap().to_string(), text);
        }
    }
}
