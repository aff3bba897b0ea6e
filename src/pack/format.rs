//! What samples are packed as.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::wire::{Descriptor, Field, NumpyHeader};

/// What samples are packed as: big-endian, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackFormat {
    /// Unsigned integers of 8 bits.
    U8,
    /// Unsigned integers of 10 bits.
    U10,
    /// Unsigned integers of 12 bits.
    U12,
    /// Unsigned integers of 14 bits.
    U14,
    /// Unsigned integers of 16 bits.
    U16,
    /// Floats of 16 bits (IEEE 754 binary16).
    F16,
    /// Floats of 32 bits.
    F32,
}

impl PackFormat {
    /// Every format, narrow ones first.
    pub const ALL: [Self; 7] =
        [Self::U8, Self::U10, Self::U12, Self::U14, Self::U16, Self::F16, Self::F32];

    /// Bits of a sample.
    pub fn bits(self) -> usize {
        match self {
            Self::U8 => 8,
            Self::U10 => 10,
            Self::U12 => 12,
            Self::U14 => 14,
            Self::U16 | Self::F16 => 16,
            Self::F32 => 32,
        }
    }

    /// Whether samples keep their values, as far as a float of these bits can, rather than being
    /// scaled to a range of integers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32)
    }

    /// The descriptor of an item once its samples are packed.
    ///
    /// Integers are named by SPEAD's format, which knows any width; floats by a numpy header,
    /// because receivers decode no `('f', 16)`.
    pub fn describe(self, item: &Descriptor) -> Descriptor {
        let shape: Vec<u64> = match &item.numpy_header {
            Some(header) => header.shape.clone(),
            None => item.shape.iter().copied().flatten().collect(),
        };
        let (format, numpy_header) = match self {
            Self::F16 => (vec![], Some(NumpyHeader::new(">f2", &shape))),
            Self::F32 => (vec![], Some(NumpyHeader::new(">f4", &shape))),
            _ => (vec![Field::new(b'u', self.bits() as u32)], None),
        };
        let shape = shape.into_iter().map(Some).collect();
        Descriptor { format, shape, numpy_header, ..item.clone() }
    }
}

impl fmt::Display for PackFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_float() { 'f' } else { 'u' }, self.bits())
    }
}

impl FromStr for PackFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let named = |format: &Self| format.to_string() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// Text that names no [`PackFormat`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a packed format: write u8, u10, u12, u14, u16, f16 or f32")]
pub struct UnknownFormat(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_written_as_it_is_read() {
        for format in PackFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for wrong in ["", "u9", "u010", "U10", "10", "i10", "f64"] {
            let message = wrong.parse::<PackFormat>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{wrong}` is not a packed format: ")));
            assert!(message.ends_with("u8, u10, u12, u14, u16, f16 or f32"));
        }
    }
}
