//! What an item holds: the type of an element and the shape of the array of them.

use std::fmt;
use std::str::FromStr;

use doorbell::settings::InvalidValue;
use doorbell::wire::{Field, canonical_dtype};

use crate::plural;

/// The type and shape of an item's value, written `TYPE[DIMS]`: `i8[4096]`, `<f4[16x2]`, `u48[]` for
/// a scalar. It always comes to a whole number of bytes, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayType {
    element: ElementType,
    shape: Vec<u64>,
    bytes: u64,
}

/// The type of one element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementType {
    /// A SPEAD format field, big-endian and packed to the bit: `u48`, `i10`, `f32`, `b8`, `c8`.
    Spead(Field),
    /// A numpy dtype string with its byte order, of `bytes` bytes an element: `<f4`, `>i2`, `|u1`.
    Numpy {
        /// The dtype as numpy itself writes it, never with the `=` of native order.
        descr: String,
        /// Bytes in one element.
        bytes: u64,
    },
}

impl ArrayType {
    /// The type of one element.
    pub fn element(&self) -> &ElementType {
        &self.element
    }

    /// The dimensions, in C order; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The size of the whole value in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn new(element: ElementType, shape: Vec<u64>) -> Result<Self, String> {
        let bits = element.bits();
        let total = shape.iter().try_fold(bits, |total, &dimension| total.checked_mul(dimension));
        match total {
            Some(0) => Err("a dimension of 0 leaves nothing to send; give 1 or more".to_owned()),
            Some(total) if total.is_multiple_of(8) => Ok(Self { element, shape, bytes: total / 8 }),
            Some(total) => {
                let step = 8 >> bits.trailing_zeros().min(3);
                Err(format!(
                    "its {total} bits are not whole bytes; make the number of elements a multiple of {step}"
                ))
            }
            None => Err("it is larger than any memory".to_owned()),
        }
    }
}

impl ElementType {
    fn parse(text: &str) -> Result<Self, String> {
        let mut characters = text.chars();
        match characters.next() {
            Some('<' | '>' | '|' | '=') => {
                let (descr, bytes) = canonical_dtype(text)?;
                Ok(Self::Numpy { descr, bytes })
            }
            code => spead(code.unwrap_or(' '), characters.as_str())
                .map_err(|hint| numpys_word(text).unwrap_or_else(|| hint.into())),
        }
    }

    /// What numpy makes of the same word, if that is something else.
    pub fn homonym(&self) -> Option<String> {
        let Self::Spead(field) = self else { return None };
        let (descr, bytes) = canonical_dtype(&self.to_string()).ok()?;
        (8 * bytes != u64::from(field.bits)).then(|| {
            let bits = plural(field.bits.into(), "bit");
            let bytes = plural(bytes, "byte");
            format!(
                "{self} is a SPEAD type of {bits}; numpy's {self}, of {bytes}, is written {descr}"
            )
        })
    }

    fn bits(&self) -> u64 {
        match self {
            Self::Spead(field) => u64::from(field.bits),
            Self::Numpy { bytes, .. } => bytes.saturating_mul(8),
        }
    }
}

impl FromStr for ArrayType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parse = || {
            let (element, shape) = match text.split_once('[') {
                Some((element, shape)) => {
                    (element, shape.strip_suffix(']').ok_or("the `[` has no `]` at the end")?)
                }
                None => (text, ""),
            };
            let dimensions = shape.split('x').filter(|_| !shape.is_empty());
            let shape = dimensions
                .map(|dimension| {
                    decimal(dimension).ok_or("dimensions are numbers joined by `x`: [16x2]")
                })
                .collect::<Result<_, _>>()?;
            Self::new(ElementType::parse(element)?, shape)
        };
        parse().map_err(|hint: String| InvalidValue::new(text, "a type and shape", hint))
    }
}

/// The widths are those that spead2 takes apart: floats of 32 and 64 bits, characters of 8, and any
/// other type of any width.
fn spead(code: char, bits: &str) -> Result<ElementType, &'static str> {
    let bits = decimal(bits);
    let field = |bits: u64| Ok(ElementType::Spead(Field::new(code as u8, bits as u32)));
    match (code, bits) {
        ('u' | 'i' | 'b', Some(bits @ 1..=MAX_BITS)) => field(bits),
        ('u' | 'i' | 'b', _) => Err("after u, i or b goes a width of 1 to 65535 bits: u48"),
        ('f', Some(bits @ (32 | 64))) => field(bits),
        ('f', _) => Err("SPEAD floats are f32 and f64; as numpy dtypes in bytes, <f2 <f4 <f8"),
        ('c', Some(bits @ 8)) => field(bits),
        ('c', _) => Err("SPEAD characters are c8; complex numbers are numpy dtypes, such as <c8"),
        _ => Err(
            "its type is u, i, f, b or c and bits (u48), or a numpy dtype with its byte order (<f4)",
        ),
    }
}

/// What to write for a type that numpy has, by this name of it.
fn numpys_word(text: &str) -> Option<String> {
    let (descr, _) = canonical_dtype(text).ok()?;
    // Of f4 and c8, more is to be said than that.
    let is_other = text[1..].starts_with(char::is_alphabetic) || text.starts_with(['S', 'U', 'V']);
    is_other.then(|| format!("numpy's {text} is written {descr}"))
}

/// Digits only: `u64::from_str` also takes a plus sign, and leading zeros would not come back.
fn decimal(text: &str) -> Option<u64> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spead(field) => write!(f, "{}{}", char::from(field.code), field.bits),
            Self::Numpy { descr, .. } => f.write_str(descr),
        }
    }
}

impl fmt::Display for ArrayType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimensions: Vec<String> = self.shape.iter().map(u64::to_string).collect();
        write!(f, "{}[{}]", self.element, dimensions.join("x"))
    }
}

/// The widest format field that every flavour in use can say: 64-48 leaves 16 bits for it.
const MAX_BITS: u64 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sizes and spellings as numpy 2 gives them: `np.dtype(text).itemsize`, `np.dtype(text).str`.
    #[test]
    fn numpy_dtypes_are_numpys() {
        for (text, descr, bytes) in [
            ("<u1", "|u1", 1),
            ("|b1", "|b1", 1),
            (">f4", ">f4", 4),
            ("<S3", "|S3", 3),
            ("<U5", "<U5", 20),
            ("|V16", "|V16", 16),
            ("<c8", "<c8", 8),
            ("<f16", "<f16", 16),
        ] {
            let array: ArrayType = text.parse().unwrap();
            assert_eq!((array.element().to_string().as_str(), array.bytes()), (descr, bytes));
        }
        let native = if cfg!(target_endian = "little") { "<i4[]" } else { ">i4[]" };
        assert_eq!("=i4".parse::<ArrayType>().unwrap().to_string(), native);
    }

    #[test]
    fn what_numpy_calls_by_the_same_word_is_told_apart() {
        let homonym = |text: &str| text.parse::<ArrayType>().unwrap().element().homonym();
        let said = "u2 is a SPEAD type of 2 bits; numpy's u2, of 2 bytes, is written <u2";
        assert_eq!(homonym("u2[4]").as_deref(), Some(said));
        for text in ["i1[8]", "b1[8]", "u8", "i8", "c8", "u4[2]"] {
            assert!(homonym(text).is_some(), "{text}");
        }
        for text in ["<u2", "u10[4]", "u16", "f32", "f64", "|u1", "b8"] {
            assert_eq!(homonym(text), None);
        }
    }

    #[test]
    fn sizes_are_in_whole_bytes() {
        let bytes = |text: &str| text.parse::<ArrayType>().map(|array| array.bytes());
        assert_eq!(bytes("i8[4096]"), Ok(4096));
        assert_eq!(bytes("u12[3840x2160]"), Ok(3840 * 2160 * 12 / 8));
        assert_eq!(bytes("u48[]"), Ok(6));
        assert_eq!(bytes("<f4[16x2]"), Ok(128));
        assert_eq!(bytes("b1[8]"), Ok(1));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, hint) in [
            ("", "numpy dtype with its byte order (<f4)"),
            ("x8[1]", "numpy dtype with its byte order (<f4)"),
            ("u[1]", "a width of 1 to 65535 bits"),
            ("u0[1]", "a width of 1 to 65535 bits"),
            ("f4[1]", "SPEAD floats are f32 and f64; as numpy dtypes in bytes, <f2 <f4 <f8"),
            ("c16[1]", "complex numbers are numpy dtypes"),
            ("<f3[1]", "numpy dtypes are"),
            ("float32[1]", "numpy's float32 is written <f4"),
            ("uint8", "numpy's uint8 is written |u1"),
            ("complex64[2]", "numpy's complex64 is written <c8"),
            ("<float32[1]", "numpy dtypes are"),
            ("<U536870912", "numpy dtypes are"),
            ("<M8[ns]", "dimensions are numbers joined by `x`"),
            ("|i4[1]", "write < (little-endian) or >"),
            ("i8[4", "the `[` has no `]`"),
            ("i8[4,2]", "joined by `x`: [16x2]"),
            ("i8[4x]", "joined by `x`: [16x2]"),
            ("i8[0]", "give 1 or more"),
            (
                "u12[3]",
                "its 36 bits are not whole bytes; make the number of elements a multiple of 2",
            ),
            ("u1[]", "a multiple of 8"),
            ("u64[4294967296x4294967296]", "larger than any memory"),
        ] {
            let message = text.parse::<ArrayType>().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("`{text}` is not a type and shape: ")),
                "{message}"
            );
            assert!(message.contains(hint), "{message}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            element in r"[uib][1-9][0-9]?|f32|f64|c8|[<>](i2|u8|f4|c16|U3)|\|(u1|b1|S9|V4)",
            shape in proptest::collection::vec(1u64..100, 0..4),
        ) {
            let dimensions: Vec<String> = shape.iter().map(u64::to_string).collect();
            let text = format!("{element}[{}]", dimensions.join("x"));
            if let Ok(array) = text.parse::<ArrayType>() {
                prop_assert_eq!(array.to_string(), text);
                prop_assert_eq!(array.shape(), shape);
            }
        }

        #[test]
        fn no_text_panics(text: String, near in r"[<>|=]?[uifbcSUV]?[0-9]{0,22}\[?[0-9x]{0,30}\]?") {
            let _ = (text.parse::<ArrayType>(), near.parse::<ArrayType>());
        }
    }
}
