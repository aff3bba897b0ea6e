//! From samples to packed bits.

use std::io;

use serde::Serialize;

use super::{Interval, PackFormat, SampleType, Samples, half};

/// Packs samples: reads them once, in blocks that stay in the first-level cache, and writes no more
/// than the packed bits.
///
/// Integers are `(sample - low) / step`, to the nearest, of two the even one; what lies outside of
/// the interval becomes its nearer end, and what is not a number becomes 0. Floats are the nearest
/// that there is; what is finite stays finite, infinities and NaN stay what they are.
///
/// ```
/// use doorbell::pack::{Encoder, PackFormat, SampleType};
/// use doorbell::wire::{Descriptor, NumpyHeader};
///
/// let frame = Descriptor::numpy(0x3300, "frame", "", NumpyHeader::new("<f8", &[4]));
/// let samples = SampleType::of(&frame).expect("a numeric type");
/// let encoder = Encoder::new(samples, PackFormat::U10, "0..1".parse()?);
/// let values = [0.0_f64, 0.5, 1.0, 7.0];
/// let frame: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
/// let mut packed = Vec::new();
/// let loss = encoder.encode(&frame, &mut packed)?;
/// assert_eq!(packed, [0x00, 0x20, 0x0f, 0xff, 0xff]); // 0, 512, 1023, 1023
/// assert_eq!(loss.clipped, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    samples: SampleType,
    format: PackFormat,
    interval: Interval,
}

/// Samples that did not keep their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Those outside of the interval, or, among floats, beyond the largest: they were sent as its
    /// nearer end.
    pub clipped: u64,
    /// Those that are not a number: they were sent as 0. Floats have NaN, and lose none.
    pub not_a_number: u64,
}

impl Loss {
    /// Whether all samples kept their values, but for rounding.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Counts the `other` ones, too.
    pub fn add(&mut self, other: Self) {
        self.clipped += other.clipped;
        self.not_a_number += other.not_a_number;
    }
}

impl Encoder {
    /// Packs samples of a type in a format. Floats have no use for the interval.
    pub fn new(samples: SampleType, format: PackFormat, interval: Interval) -> Self {
        let interval = if format.is_float() { Interval::UNIT } else { interval };
        Self { samples, format, interval }
    }

    /// The value of an integer `n` is `n * step() + low`.
    pub fn step(&self) -> f64 {
        (self.interval.high() - self.interval.low()) / self.last()
    }

    /// What is packed.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// Bytes of `count` samples once they are packed.
    pub fn packed_len(&self, count: usize) -> usize {
        (count * self.format.bits()).div_ceil(8)
    }

    /// About half of `count` samples, such that they are packed into whole bytes.
    pub(super) fn half(&self, count: usize) -> usize {
        (count / 2).next_multiple_of(BLOCK).min(count)
    }

    /// Bytes of `count` samples before they are packed.
    pub(super) fn size_of(&self, count: usize) -> usize {
        count * self.samples.size()
    }

    /// Packs samples; the last byte is filled up with zeros.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn encode<'a>(
        &self,
        samples: impl Into<Samples<'a>>,
        out: &mut dyn io::Write,
    ) -> io::Result<Loss> {
        self.encode_blocks(samples.into(), out)
    }

    fn encode_blocks(&self, samples: Samples<'_>, out: &mut dyn io::Write) -> io::Result<Loss> {
        let pack = match self.format {
            PackFormat::U8 => Self::integers::<8>,
            PackFormat::U10 => Self::integers::<10>,
            PackFormat::U12 => Self::integers::<12>,
            PackFormat::U14 => Self::integers::<14>,
            PackFormat::U16 => Self::integers::<16>,
            PackFormat::F16 => Self::halves,
            PackFormat::F32 => Self::singles,
        };
        let mut converted = [[0; size_of::<f64>()]; BLOCK];
        let mut packed = [0; ROOM];
        let mut loss = Loss::default();
        let mut copied = [0; BLOCK * size_of::<f64>()];
        for (block, ahead) in samples.blocks(BLOCK * self.samples.size()) {
            let block = block.read(&mut copied);
            let count = block.len() / self.samples.size();
            let values = match block.as_chunks().0.try_into() {
                Ok(values) if self.samples.is_f64() => values,
                _ => {
                    self.samples.load(block, &mut converted);
                    // Only the last block is not full.
                    converted[count..].fill(self.interval.low().to_le_bytes());
                    &converted
                }
            };
            loss.add(pack(self, values, ahead, &mut packed));
            out.write_all(&packed[..self.packed_len(count)])?;
        }
        Ok(loss)
    }

    /// Packs a block, while samples `ahead` of it are fetched.
    fn integers<const BITS: usize>(
        &self,
        values: &Values,
        ahead: Samples<'_>,
        packed: &mut [u8; ROOM],
    ) -> Loss {
        let (low, high) = (self.interval.low(), self.interval.high());
        let steps_per_unit = self.last() / (high - low);
        let mut outside = 0_u64;
        // So few at once that the processor reads the next ones while it shifts the bits of these.
        for (block, values) in values.as_chunks::<AT_ONCE>().0.iter().enumerate() {
            self.fetch(block, ahead);
            let mut integers = [0_u16; AT_ONCE];
            for (integer, &value) in integers.iter_mut().zip(values) {
                let value = f64::from_le_bytes(value);
                // Not max() and min(): these comparisons are what minpd and maxpd do, NaN included.
                let within = if value > low { value } else { low };
                let within = if within < high { within } else { high };
                outside += u64::from(within != value);
                // Adding 2^52 leaves no bits for fractions: the sum is rounded to nearest even
                // (IEEE 754), and its lowest bits are the integer.
                *integer = ((within - low) * steps_per_unit + TWO_TO_52).to_bits() as u16;
            }
            // Four of an even number of bits are whole bytes. Each eight bytes written are more
            // than that, and what is too much is overwritten by the next.
            let start = block * AT_ONCE * BITS / 8;
            for (index, four) in integers.as_chunks::<4>().0.iter().enumerate() {
                let bits = four.iter().fold(0, |bits, &integer| bits << BITS | u64::from(integer));
                let bytes = (bits << (64 - 4 * BITS)).to_be_bytes();
                packed[start + index * BITS / 2..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        let mut loss = Loss { clipped: outside, not_a_number: 0 };
        if outside > 0 {
            let not_a_number = values.iter().filter(|value| f64::from_le_bytes(**value).is_nan());
            loss.not_a_number = not_a_number.count() as u64;
            loss.clipped -= loss.not_a_number;
        }
        loss
    }

    fn halves(&self, values: &Values, ahead: Samples<'_>, packed: &mut [u8; ROOM]) -> Loss {
        let fetch = |block| self.fetch(block, ahead);
        floats(values, fetch, packed, half::MAX, |value| half::from_f64(value).to_be_bytes())
    }

    fn singles(&self, values: &Values, ahead: Samples<'_>, packed: &mut [u8; ROOM]) -> Loss {
        let (fetch, most) = (|block| self.fetch(block, ahead), f64::from(f32::MAX));
        floats(values, fetch, packed, most, |value| (value as f32).to_be_bytes())
    }

    /// Has a few of the samples ahead fetched: as many as are packed at once.
    #[inline]
    fn fetch(&self, block: usize, ahead: Samples<'_>) {
        ahead.prefetch(self.size_of(block * AT_ONCE)..self.size_of((block + 1) * AT_ONCE));
    }

    /// The largest integer.
    fn last(&self) -> f64 {
        ((1_u64 << self.format.bits()) - 1) as f64
    }
}

fn floats<const SIZE: usize>(
    values: &Values,
    fetch: impl Fn(usize),
    packed: &mut [u8; ROOM],
    most: f64,
    convert: impl Fn(f64) -> [u8; SIZE],
) -> Loss {
    let mut clipped = 0;
    let packed = packed.as_chunks_mut().0.as_chunks_mut::<AT_ONCE>().0;
    let values = values.as_chunks::<AT_ONCE>().0;
    for (block, (packed, values)) in packed.iter_mut().zip(values).enumerate() {
        fetch(block);
        for (bytes, &value) in packed.iter_mut().zip(values) {
            let value = f64::from_le_bytes(value);
            let beyond = value.abs() > most && value.is_finite();
            clipped += u64::from(beyond);
            *bytes = convert(if beyond { most.copysign(value) } else { value });
        }
    }
    Loss { clipped, not_a_number: 0 }
}

/// Samples as little-endian floats of 64 bits: the most frequent type, which is read where it lies.
type Values = [[u8; size_of::<f64>()]; BLOCK];

/// Samples from one call to the next.
const BLOCK: usize = 512;
const AT_ONCE: usize = 32;
/// Bytes of a block of the widest samples, and what is written in excess after it.
const ROOM: usize = 4 * BLOCK + 8;
const TWO_TO_52: f64 = 4_503_599_627_370_496.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::region::MappedBytes;
    use crate::wire::{Descriptor, NumpyHeader};

    fn encoder(dtype: &str, format: PackFormat, low: f64, high: f64) -> Encoder {
        let item = Descriptor::numpy(1, "", "", NumpyHeader::new(dtype, &[]));
        let samples = SampleType::of(&item).unwrap();
        Encoder::new(samples, format, Interval::new(low, high).unwrap())
    }

    /// What `encode` is to do, sample by sample and bit by bit.
    fn one_by_one(encoder: &Encoder, values: &[f64]) -> (Vec<u8>, Loss) {
        let (mut bits, mut loss) = (Vec::new(), Loss::default());
        let (low, high) = (encoder.interval.low(), encoder.interval.high());
        for &value in values {
            let count = encoder.format.bits();
            let raw = match encoder.format {
                PackFormat::F32 if value.is_finite() && value.abs() > f64::from(f32::MAX) => {
                    loss.clipped += 1;
                    u64::from(f32::MAX.copysign(value as f32).to_bits())
                }
                PackFormat::F32 => u64::from((value as f32).to_bits()),
                PackFormat::F16 if value.is_finite() && value.abs() > half::MAX => {
                    loss.clipped += 1;
                    u64::from(half::from_f64(half::MAX.copysign(value)))
                }
                PackFormat::F16 => u64::from(half::from_f64(value)),
                _ => {
                    loss.clipped += u64::from(value < low || value > high);
                    loss.not_a_number += u64::from(value.is_nan());
                    let value = if value.is_nan() { low } else { value.clamp(low, high) };
                    let last = f64::from((1 << count) - 1);
                    ((value - low) * (last / (high - low))).round_ties_even() as u64
                }
            };
            bits.extend((0..count).rev().map(|bit| (raw >> bit & 1) as u8));
        }
        let bytes = bits.chunks(8).map(|bits| {
            bits.iter().zip((0..8).rev()).fold(0, |byte, (bit, place)| byte | bit << place)
        });
        (bytes.collect(), loss)
    }

    #[test]
    fn integers_are_rounded_to_nearest_even() {
        let encoder = encoder("<f8", PackFormat::U8, 0.0, 255.0);
        let samples = [0.5, 1.5, 2.5, 2.500001, 254.5, 255.4, -0.1, f64::NAN, f64::INFINITY];
        let bytes: Vec<u8> = samples.iter().flat_map(|sample: &f64| sample.to_le_bytes()).collect();
        let mut packed = Vec::new();
        let loss = encoder.encode(&bytes, &mut packed).unwrap();
        assert_eq!(packed, [0, 2, 2, 3, 254, 255, 0, 0, 255]);
        assert_eq!(loss, Loss { clipped: 3, not_a_number: 1 });
    }

    #[test]
    fn every_type_of_sample_is_read_in_either_byte_order() {
        for (dtype, bytes) in [
            ("|u1", &[200_u8][..]),
            ("<u2", &[200, 0]),
            (">u2", &[0, 200]),
            ("<u4", &[200, 0, 0, 0]),
            (">u8", &[0, 0, 0, 0, 0, 0, 0, 200]),
            ("|i1", &[100]),
            (">i2", &[0, 200]),
            ("<i4", &[200, 0, 0, 0]),
            ("<i8", &[200, 0, 0, 0, 0, 0, 0, 0]),
            ("<f2", &[0x40, 0x5a]),
            (">f2", &[0x5a, 0x40]),
            ("<f4", &[0, 0, 0x48, 0x43]),
            (">f4", &[0x43, 0x48, 0, 0]),
            (">f8", &[0x40, 0x69, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut packed = Vec::new();
            let encoder = encoder(dtype, PackFormat::U16, 0.0, 65535.0);
            encoder.encode(bytes, &mut packed).unwrap();
            assert_eq!(packed, [0, if dtype == "|i1" { 100 } else { 200 }], "{dtype}");
        }
        for wrong in ["|b1", "<c8", "|S8", "<U1", "<f16", "[('a', '<f4')]", "<M8[ns]"] {
            let item = Descriptor::numpy(1, "", "", NumpyHeader::new(wrong, &[]));
            assert!(SampleType::of(&item).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn blocks_are_what_samples_are_one_by_one(
            format in prop::sample::select(&PackFormat::ALL[..]),
            bounds in (-1e6_f64..1e6, 1e-3_f64..1e6),
            special in prop::collection::vec(prop::num::f64::ANY, 0..20),
            len in 0_usize..1300,
            seed: u64,
        ) {
            let (low, high) = (bounds.0, bounds.0 + bounds.1);
            let encoder = encoder("<f8", format, low, high);
            let mut state = seed;
            let mut values: Vec<f64> = (0..len).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                low + (high - low) * ((state >> 33) as f64 / (1_u64 << 30) as f64 - 0.5)
            }).collect();
            values.extend(special);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut packed = Vec::new();
            let loss = encoder.encode(&bytes, &mut packed).unwrap();
            let expected = one_by_one(&encoder, &values);
            prop_assert_eq!(packed.len(), encoder.packed_len(values.len()));
            if format == PackFormat::F32 {
                // A NaN may have any bits.
                for (packed, expected) in packed.as_chunks().0.iter().zip(expected.0.as_chunks().0) {
                    let (packed, expected) = (f32::from_be_bytes(*packed), f32::from_be_bytes(*expected));
                    prop_assert!(packed == expected || packed.is_nan() && expected.is_nan());
                }
            } else {
                prop_assert_eq!(&packed, &expected.0);
            }
            prop_assert_eq!(loss, expected.1);
            let mut mapped = Vec::new();
            let loss = encoder.encode(MappedBytes::of(&bytes), &mut mapped).unwrap();
            prop_assert_eq!((mapped, loss), (packed, expected.1));
        }

        #[test]
        fn integers_stand_for_values_within_half_a_step(
            low in -1e3_f64..1e3,
            width in 1e-3_f64..1e3,
            parts in prop::collection::vec(0.0_f64..=1.0, 1..100),
        ) {
            let encoder = encoder("<f8", PackFormat::U16, low, low + width);
            let values: Vec<f64> = parts.iter().map(|part| (low + width * part).min(low + width)).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut packed = Vec::new();
            let loss = encoder.encode(&bytes, &mut packed).unwrap();
            prop_assert!(loss.is_none());
            for (bytes, value) in packed.as_chunks().0.iter().zip(values) {
                let decoded = f64::from(u16::from_be_bytes(*bytes)) * encoder.step() + low;
                let rounding = 4.0 * f64::EPSILON * (low.abs() + width);
                prop_assert!((decoded - value).abs() <= encoder.step() / 2.0 + rounding);
            }
        }
    }
}
