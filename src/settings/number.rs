//! Whole numbers as people write them.

/// A number, decimal or hexadecimal after `0x`, of digits alone: `13056`, `0x3300`.
///
/// ```
/// use doorbell::settings::number;
///
/// assert_eq!([number("13056"), number("0x3300")], [Some(0x3300); 2]);
/// // Rust's own parsers take a sign.
/// assert_eq!([number("+1"), number("0x+1"), number("0x")], [None; 3]);
/// ```
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let is_plain = digits.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| is_plain)
}

/// The number that somebody had in mind who wrote `1e6`, `1_000_000`, `1,000,000`, `0xf4240` or `1000000.0`.
pub(super) fn meant(text: &str) -> Option<u64> {
    let plain = text.trim().replace(['_', ',', ' ', '\''], "");
    let real =
        || plain.parse().ok().filter(|it: &f64| it.fract() == 0.0 && (0.0..EXACT).contains(it));
    number(&plain).or_else(|| real().map(|it| it as u64))
}

/// Up to which floating point has all whole numbers.
const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_guessed_from_what_is_none() {
        for text in ["1e6", "1_000_000", "1,000,000", "1 000 000", "0xf4240", "1000000.0"] {
            assert_eq!(meant(text), Some(1_000_000), "{text}");
        }
        for text in ["", "-1", "1.5", "many", "1e99", "nan", "inf", "10%"] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}
