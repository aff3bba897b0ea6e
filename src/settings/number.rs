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
