//! Fields of any width, packed without gaps, most significant bit first.

/// The `bits` bits (1 to 64) from bit `at` on, bits beyond the end being 0.
pub(super) fn bits_at(bytes: &[u8], at: usize, bits: u32) -> u64 {
    let (byte, shift) = (at / 8, (at % 8) as u32);
    if shift + bits <= u64::BITS
        && let Some(word) = bytes.get(byte..).and_then(<[u8]>::first_chunk)
    {
        return u64::from_be_bytes(*word) << shift >> (u64::BITS - bits);
    }
    let word = (0..9).fold(0_u128, |word, next| {
        word << 8 | u128::from(bytes.get(byte + next).copied().unwrap_or(0))
    });
    let mask = u64::MAX >> (u64::BITS - bits);
    (word >> (72 - shift - bits)) as u64 & mask
}

/// The number of `bits` bits (1 to 64) in two's complement.
pub(super) fn sign_extended(value: u64, bits: u32) -> i64 {
    let unused = u64::BITS - bits;
    (value << unused) as i64 >> unused
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against one bit after the other.
        #[test]
        fn bits_are_those_one_by_one(bytes: [u8; 20], at in 0_usize..96, bits in 1_u32..=64) {
            let bit = |at: usize| u64::from(bytes[at / 8] >> (7 - at % 8) & 1);
            let expected = (at..at + bits as usize).fold(0, |value, at| value << 1 | bit(at));
            prop_assert_eq!(bits_at(&bytes, at, bits), expected);
            let end = (at + bits as usize).div_ceil(8);
            prop_assert_eq!(bits_at(&bytes[..end], at, bits), expected);
            let negative = bit(at) == 1;
            let signed = i128::from(expected) - if negative { 1_i128 << bits } else { 0 };
            prop_assert_eq!(i128::from(sign_extended(expected, bits)), signed);
        }
    }
}
