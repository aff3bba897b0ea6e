//! Floats of 16 bits: IEEE 754 binary16, one bit of sign, five of exponent, ten of fraction.

/// The largest finite value.
pub(super) const MAX: f64 = 65_504.0;

/// The value of these bits, exactly.
pub(super) fn to_f64(bits: u16) -> f64 {
    let magnitude = u32::from(bits & !SIGN);
    // Read as the upper bits of a 32-bit float the fraction is in its place, and the exponent, too
    // small by the difference of the biases, is made up for by a multiplication: it is exact, also
    // for subnormal numbers.
    let value = f32::from_bits(magnitude << 13) * f32::from_bits(BIAS_DIFFERENCE);
    let value = match magnitude < u32::from(INFINITY) {
        true => f64::from(value),
        false if magnitude == u32::from(INFINITY) => f64::INFINITY,
        false => f64::NAN,
    };
    if bits & SIGN == 0 { value } else { -value }
}

/// The bits of the nearest value, of two the one that is even; what is beyond [`MAX`] becomes infinite.
pub(super) fn from_f64(value: f64) -> u16 {
    let sign = value.to_bits() >> 48 & u64::from(SIGN);
    let magnitude = value.abs();
    // Adding 2^52 steps leaves no bits for parts of a step, so that the addition itself rounds.
    let exponent = (magnitude.to_bits() >> 52).max(LEAST_EXPONENT);
    let steps = f64::from_bits((exponent + 42) << 52);
    let rounded = (magnitude + steps) - steps;
    // Below the normal numbers, bits count steps of 2^-24; above, the exponent is to be re-biased.
    let subnormal = (rounded + LEAST_STEPS).to_bits();
    let normal = (rounded.to_bits() >> 42).wrapping_sub((LEAST_EXPONENT - 1) << 10);
    let finite = if rounded < LEAST_NORMAL { subnormal } else { normal };
    let special = u64::from(if magnitude.is_nan() { NAN } else { INFINITY });
    (sign | if magnitude <= MAX { finite } else { special }) as u16
}

const SIGN: u16 = 0x8000;
const INFINITY: u16 = 0x7c00;
const NAN: u16 = 0x7e00;
/// 2^112 as a 32-bit float: 127, the bias of the exponent there, less 15, the bias here.
const BIAS_DIFFERENCE: u32 = (127 + 112) << 23;
/// Of the smallest normal number, 2^-14, as 64-bit floats have it.
const LEAST_EXPONENT: u64 = 1023 - 14;
const LEAST_NORMAL: f64 = 1.0 / 16_384.0;
/// 2^52 steps of 2^-24.
const LEAST_STEPS: f64 = 268_435_456.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: IEEE 754-2019, 3.4.
    fn by_definition(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
        };
        magnitude.copysign(if bits & SIGN == 0 { 1.0 } else { -1.0 })
    }

    #[test]
    fn every_value_is_read_and_written_as_defined() {
        for bits in 0..=u16::MAX {
            let value = to_f64(bits);
            assert_eq!(value.is_nan(), by_definition(bits).is_nan());
            if value.is_nan() {
                assert_eq!(from_f64(value) & !SIGN, NAN);
            } else {
                assert_eq!(value.to_bits(), by_definition(bits).to_bits(), "{bits:#x}");
                assert_eq!(from_f64(value), bits);
            }
        }
    }

    /// Between each two neighbours: their middle goes to the even one, all else to the nearer.
    #[test]
    fn values_between_go_to_the_nearest() {
        for bits in 0..0x7bff {
            let (low, high) = (to_f64(bits), to_f64(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(from_f64(middle), bits + (bits & 1), "{bits:#x}");
            assert_eq!(from_f64(middle.next_down()), bits);
            assert_eq!(from_f64(middle.next_up()), bits + 1);
            assert_eq!(from_f64(-middle.next_up()), (bits + 1) | SIGN);
        }
    }
}
