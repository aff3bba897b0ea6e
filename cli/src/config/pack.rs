//! What samples are to be packed as.

use std::fmt;
use std::str::FromStr;

use super::program::{ITEMS, PACK, RANGE, SOURCE};
use super::{HeapContent, InvalidValue, Item, Program, SettingsError, SourceKind};
use doorbell::pack::{Interval, InvalidInterval, PackFormat};

use crate::source::{OFFSET_ITEM, SCALE_ITEM};

/// What samples are packed as, and which values the integers stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PackConfig {
    /// Bits of a sample.
    pub format: PackFormat,
    /// Which values integers stand for: always automatic for floats, which stand for themselves.
    pub range: PackRange,
}

/// Which values packed integers stand for, written `auto` or `LOW..HIGH`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum PackRange {
    /// Those between the least and the greatest sample of the first heap.
    #[default]
    Auto,
    /// These.
    Fixed(Interval),
}

impl PackRange {
    /// The values, unless the first heap is to say.
    pub fn interval(self) -> Option<Interval> {
        match self {
            Self::Auto => None,
            Self::Fixed(interval) => Some(interval),
        }
    }
}

impl FromStr for PackRange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hint = "write auto, or LOW..HIGH, two numbers of which the first is less: 0..1";
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Fixed)
                .map_err(|_: InvalidInterval| InvalidValue::new(text, "a range", hint)),
        }
    }
}

impl fmt::Display for PackRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(interval) => interval.fmt(f),
        }
    }
}

impl PackConfig {
    /// What the options come to, for heaps of this content.
    pub(super) fn resolve(
        options: &Program,
        source: &SourceKind,
        content: &HeapContent,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(format) = options.pack else {
            return match options.range {
                None | Some(PackRange::Auto) => Ok(None),
                Some(_) => {
                    let hint = format!("{RANGE} is what packed integers stand for; give u10, say");
                    Err(SettingsError::missing(PACK, hint))
                }
            };
        };
        let range = options.range.unwrap_or_default();
        if format.is_float() && range != PackRange::Auto {
            let hint = format!("{format} stands for itself; drop the range, or pack as integers");
            return Err(SettingsError::conflict(RANGE, PACK, hint));
        }
        match (source, content) {
            (SourceKind::Npy(_), _) => {}
            (SourceKind::File(_) | SourceKind::Stdin, HeapContent::Items(items)) => {
                one_item(items, &source.to_string())?;
            }
            (SourceKind::File(_) | SourceKind::Stdin, _) => {
                let hint = format!(
                    "{PACK} needs to know what the samples of {source} are; give the item that a heap \
                     is, such as frame:<f4[2160x3840x3]"
                );
                return Err(SettingsError::missing(ITEMS, hint));
            }
            _ => {
                let hint = "only files and pipes are packed; give a .npy file, or a raw file, or -, and its item";
                return Err(SettingsError::conflict(PACK, SOURCE, hint));
            }
        }
        Ok(Some(Self { format, range }))
    }
}

fn one_item(items: &[Item], path: &str) -> Result<(), SettingsError> {
    let [item] = items else {
        let hint = format!("a heap of {path} is to be one item; give one, or drop {}", PACK);
        return Err(SettingsError::conflict(PACK, ITEMS, hint));
    };
    let taken = [(SCALE_ITEM, "scale"), (OFFSET_ITEM, "offset")];
    if taken.iter().any(|&(id, name)| item.id() == id || item.name() == name) {
        let hint = format!(
            "with {} the items {SCALE_ITEM:#x}=scale and {OFFSET_ITEM:#x}=offset say what integers \
             stand for; take another id and name",
            PACK
        );
        return Err(SettingsError::unusable(ITEMS, item, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_they_are_read() {
        for text in ["auto", "0..1", "-0.5..1000", "1000000..3000000.25"] {
            assert_eq!(text.parse::<PackRange>().unwrap().to_string(), text);
        }
        for wrong in ["", "Auto", "1..0", "0..0", "0-1", "0..inf"] {
            let message = wrong.parse::<PackRange>().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("`{wrong}` is not a range: write auto, or LOW..HIGH")),
                "{message}"
            );
        }
    }
}
