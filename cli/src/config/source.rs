//! Where payload comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::InvalidValue;

/// Where payload comes from, written `pattern`, `random:SEED`, `FILE.npy`, `FILE` or `-`. A file that
/// bears one of the other names is written with its directory: `./pattern`. Files may be patterns of
/// names, as a shell has them: `frames/*.npy`.
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
    /// Arrays written by numpy, in this order; the leading axis of each counts heaps.
    Npy(Vec<PathBuf>),
    /// Files of bytes, in this order, cut into heaps; or a FIFO.
    File(Vec<PathBuf>),
    /// Standard input, cut into heaps.
    Stdin,
}

impl SourceKind {
    /// Several sources as one: files of one kind, in their order. Else what is wrong.
    pub(super) fn join(kinds: Vec<Self>) -> Result<Self, String> {
        let mut kinds = kinds.into_iter();
        let first = kinds.next().ok_or("give a source, or leave it out")?;
        kinds.try_fold(first, |joined, kind| match (joined, kind) {
            (Self::Npy(paths), Self::Npy(more)) => Ok(Self::Npy([paths, more].concat())),
            (Self::File(paths), Self::File(more)) => Ok(Self::File([paths, more].concat())),
            (joined, kind) => Err(format!(
                "{joined} and {kind} are no files of one kind; give several .npy files, several \
                 other files, or one source"
            )),
        })
    }

    /// The sources that come to this one.
    pub(super) fn split(self) -> Vec<Self> {
        match self {
            Self::Npy(paths) => paths.into_iter().map(|path| Self::Npy(vec![path])).collect(),
            Self::File(paths) => paths.into_iter().map(|path| Self::File(vec![path])).collect(),
            other => vec![other],
        }
    }
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
                None if is_npy(text) => Ok(Self::Npy(vec![text.into()])),
                None => Ok(Self::File(vec![text.into()])),
            },
        }
    }
}

/// Whether a file's name, or a pattern of names, is that of an array.
fn is_npy(name: &str) -> bool {
    let suffix = name.len().checked_sub(SUFFIX.len()).and_then(|at| name.get(at..));
    suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(SUFFIX))
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern => f.write_str("pattern"),
            Self::Random { seed } => write!(f, "random:{seed}"),
            Self::Npy(paths) | Self::File(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(", "))
            }
            Self::Stdin => f.write_str("-"),
        }
    }
}

const SUFFIX: &str = ".npy";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_is_told_apart() {
        let parse = |text: &str| text.parse::<SourceKind>().unwrap();
        assert_eq!(parse("pattern"), SourceKind::Pattern);
        assert_eq!(parse("random:7"), SourceKind::Random { seed: 7 });
        assert_eq!(parse("frames/a.npy"), SourceKind::Npy(vec!["frames/a.npy".into()]));
        assert_eq!(parse("A.NPY"), SourceKind::Npy(vec!["A.NPY".into()]));
        assert_eq!(parse("./pattern"), SourceKind::File(vec!["./pattern".into()]));
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

    #[test]
    fn files_of_one_kind_are_one_source() {
        let parse = |text: &str| text.parse::<SourceKind>().unwrap();
        let files = vec![parse("b.npy"), parse("a*.npy")];
        let joined = SourceKind::join(files.clone()).unwrap();
        assert_eq!(joined, SourceKind::Npy(vec!["b.npy".into(), "a*.npy".into()]));
        assert_eq!(joined.split(), files);
        assert_eq!(SourceKind::join(vec![SourceKind::Stdin]), Ok(SourceKind::Stdin));
        for wrong in [["a.npy", "a.raw"], ["-", "-"], ["pattern", "a"]] {
            let hint = SourceKind::join(wrong.map(parse).into()).unwrap_err();
            assert!(hint.starts_with(&wrong.join(" and ")), "{hint}");
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
