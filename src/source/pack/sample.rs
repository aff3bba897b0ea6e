//! The numeric types that samples come in.

use super::half;
use crate::wire::Descriptor;

/// The type of the samples of an item: an integer of 8 to 64 bits or a float of 16 to 64, in either
/// byte order.
#[derive(Clone, Copy, Debug)]
pub struct SampleType {
    /// Bytes of a sample.
    size: usize,
    /// Turns bytes into values, as many as there are of both. Integers beyond 2^53 are rounded.
    load: fn(&[u8], &mut [f64]),
}

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

    /// Turns bytes into values, as many as there are of both.
    pub(super) fn load(self, bytes: &[u8], values: &mut [f64]) {
        (self.load)(bytes, values);
    }

    /// The type that numpy calls `code`, less the byte order.
    fn named(code: &str, big_endian: bool) -> Option<Self> {
        macro_rules! either {
            ($type:ty, $bytes:ident => $value:expr) => {
                either!($type, $bytes => $value, <$type>::from_be_bytes, <$type>::from_le_bytes)
            };
            ($type:ty, $sample:ident => $value:expr, $big:expr, $little:expr) => {
                Self {
                    size: size_of::<$type>(),
                    load: match big_endian {
                        true => |bytes, values| {
                            each(bytes, values, |b| { let $sample = $big(b); $value })
                        },
                        false => |bytes, values| {
                            each(bytes, values, |b| { let $sample = $little(b); $value })
                        },
                    },
                }
            };
        }
        Some(match code {
            "u1" => either!(u8, sample => f64::from(sample)),
            "u2" => either!(u16, sample => f64::from(sample)),
            "u4" => either!(u32, sample => f64::from(sample)),
            "u8" => either!(u64, sample => sample as f64),
            "i1" => either!(i8, sample => f64::from(sample)),
            "i2" => either!(i16, sample => f64::from(sample)),
            "i4" => either!(i32, sample => f64::from(sample)),
            "i8" => either!(i64, sample => sample as f64),
            "f2" => either!(u16, sample => half::to_f64(sample)),
            "f4" => either!(f32, sample => f64::from(sample)),
            "f8" => either!(f64, sample => sample),
            _ => return None,
        })
    }
}

fn each<const SIZE: usize>(bytes: &[u8], values: &mut [f64], convert: impl Fn([u8; SIZE]) -> f64) {
    for (sample, value) in bytes.as_chunks().0.iter().zip(values) {
        *value = convert(*sample);
    }
}
