//! The numeric types that samples come in.

use super::half;
use crate::wire::Descriptor;

/// The type of the samples of an item: an integer of 8 to 64 bits or a float of 16 to 64, in either
/// byte order.
#[derive(Clone, Copy, Debug)]
pub struct SampleType {
    /// Bytes of a sample.
    size: usize,
    /// See [`SampleType::load`]; `None` if nothing is to be done.
    load: Option<Load>,
}

type Load = fn(&[u8], &mut [[u8; 8]]);

impl SampleType {
    /// The type that a descriptor names; `None` if that is none of these.
    pub fn of(descriptor: &Descriptor) -> Option<Self> {
        match (&descriptor.numpy_header, descriptor.format.as_slice()) {
            (Some(header), _) => {
                let dtype = header.descr.trim_matches(['\'', '"']);
                let (big_endian, code) = match dtype.strip_prefix('>') {
                    Some(code) => (true, code),
                    None => (false, dtype.trim_start_matches(['<', '|'])),
                };
                Self::named(code, big_endian)
            }
            (None, [field]) if field.bits % 8 == 0 => {
                let code = format!("{}{}", char::from(field.code), field.bits / 8);
                Self::named(&code, true)
            }
            _ => None,
        }
    }

    /// Bytes of a sample.
    pub fn size(self) -> usize {
        self.size
    }

    /// Whether samples are little-endian floats of 64 bits already.
    pub(super) fn is_f64(self) -> bool {
        self.load.is_none()
    }

    /// Turns samples into little-endian floats of 64 bits, as many as there are of both. Integers
    /// beyond 2^53 are rounded.
    pub(super) fn load(self, bytes: &[u8], values: &mut [[u8; 8]]) {
        match self.load {
            Some(load) => load(bytes, values),
            None => each(bytes, values, f64::from_le_bytes),
        }
    }

    /// The type that numpy calls `code`, less the byte order.
    fn named(code: &str, big_endian: bool) -> Option<Self> {
        /// The size, and how to load from little and from big endian.
        macro_rules! loads {
            ($type:ty, $value:expr) => {{
                let loads: [Load; 2] = [
                    |from, to| each(from, to, |bytes| $value(<$type>::from_le_bytes(bytes))),
                    |from, to| each(from, to, |bytes| $value(<$type>::from_be_bytes(bytes))),
                ];
                (size_of::<$type>(), loads)
            }};
        }
        let (size, [little, big]) = match code {
            "u1" => loads!(u8, f64::from),
            "u2" => loads!(u16, f64::from),
            "u4" => loads!(u32, f64::from),
            "u8" => loads!(u64, |sample: u64| sample as f64),
            "i1" => loads!(i8, f64::from),
            "i2" => loads!(i16, f64::from),
            "i4" => loads!(i32, f64::from),
            "i8" => loads!(i64, |sample: i64| sample as f64),
            "f2" => loads!(u16, half::to_f64),
            "f4" => loads!(f32, f64::from),
            "f8" => loads!(f64, f64::from),
            _ => return None,
        };
        Some(match (code, big_endian) {
            ("f8", false) => Self { size, load: None },
            (_, false) => Self { size, load: Some(little) },
            (_, true) => Self { size, load: Some(big) },
        })
    }
}

fn each<const SIZE: usize>(from: &[u8], to: &mut [[u8; 8]], value: impl Fn([u8; SIZE]) -> f64) {
    for (bytes, to) in from.as_chunks().0.iter().zip(to) {
        *to = value(*bytes).to_le_bytes();
    }
}
