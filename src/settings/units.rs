//! Sizes and rates with their units.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// A number of bytes. Written as a bare number or with `B kB MB GB TB KiB MiB GiB TiB`; a fraction is
/// welcome where it comes to whole bytes (`1.5MiB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// A size of this many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        quantity(text, "a size", "bytes", "10GiB", SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for Size {
    /// Exact: the largest binary unit that divides the size, else bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, &SIZE_UNITS[..5])
    }
}

/// A data rate in bits per second. Written with a unit, `b/s kb/s Mb/s Gb/s B/s kB/s MB/s GB/s`, whose prefixes
/// are decimal (`1.5Gb/s` is 1,500,000,000): of a bare number nobody knows whether it is bits, or gigabits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(u64);

impl BitRate {
    /// A rate of this many bits per second.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self(bits)
    }

    /// The number of bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for BitRate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        quantity(text, "a rate", "bits per second", "10Gb/s", RATE_UNITS).map(Self)
    }
}

impl fmt::Display for BitRate {
    /// Exact: the largest unit of bits per second that divides the rate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, &RATE_UNITS[..4])
    }
}

/// How many times as much, 1 or more. Written as a decimal number with at most three decimals: `1.05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Ratio {
    /// In thousandths: 1000 is a ratio of one.
    pub const fn from_per_mille(per_mille: u32) -> Self {
        Self(per_mille)
    }

    /// In thousandths.
    pub const fn per_mille(self) -> u32 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        quantity(text, "a ratio", "thousandths", "1.05", &[("", 1000)])
            .ok()
            .and_then(|per_mille| u32::try_from(per_mille).ok())
            .filter(|per_mille| *per_mille >= 1000)
            .map(Self)
            .ok_or_else(|| {
                let hint = "write 1 or more, with at most three decimals, such as 1.05";
                InvalidValue::new(text, "a ratio", hint)
            })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, rest) => write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

/// Reads a decimal number and its unit in whole arithmetic, so that no value is rounded on its way in.
fn quantity(
    text: &str,
    what: &'static str,
    counted: &str,
    example: &str,
    units: &[(&str, u64)],
) -> Result<u64, InvalidValue> {
    let invalid = |hint: String| InvalidValue::new(text, what, hint);
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(invalid(format!("write a number of {counted} and a unit, such as {example}")));
    }
    let Some(&(_, scale)) = units.iter().find(|(name, _)| *name == unit.trim_start()) else {
        let names: Vec<&str> =
            units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        return match unit {
            "" => Err(invalid(format!("write a unit: {}", names.join(" ")))),
            _ => {
                let letters = unit_letters(unit);
                let alike = names.iter().filter(|name| unit_letters(name) == letters);
                let alike: Vec<String> = alike.map(|name| format!("{number}{name}")).collect();
                let meant = match alike.is_empty() {
                    true => String::new(),
                    false => format!("; did you mean {}?", alike.join(" or ")),
                };
                Err(invalid(format!("its unit is none of {}{meant}", names.join(" "))))
            }
        };
    };
    let fraction = fraction.trim_end_matches('0');
    let exact = || {
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let divisor = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = digits.checked_mul(u128::from(scale))?;
        Some((scaled / divisor, scaled % divisor == 0))
    };
    match exact() {
        Some((value, true)) if value <= u128::from(u64::MAX) => Ok(value as u64),
        Some((_, false)) => Err(invalid(format!("it does not come to whole {counted}"))),
        _ => Err(invalid(format!("it has too many digits; the most is {} {counted}", u64::MAX))),
    }
}

/// What is left of a unit without bits or bytes, and of what: the `k` of `kb`, `KiB`, `kbit/s`, `Kbps`.
fn unit_letters(unit: &str) -> String {
    let mut unit = unit.trim().to_ascii_lowercase();
    while let Some(len) = UNIT_ENDS.iter().find_map(|end| unit.strip_suffix(end)).map(str::len) {
        unit.truncate(len);
    }
    unit
}

/// Writes `value` in the first unit that divides it; `units` run from the largest down to 1.
fn write_quantity(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits =
        |&&(_, scale): &&(&str, u64)| value != 0 && value.is_multiple_of(scale) || scale == 1;
    match units.iter().find(fits) {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "{value}"),
    }
}

/// Of units of bits and bytes, however they are written.
const UNIT_ENDS: [&str; 6] = ["/s", "ps", "bit", "byte", "b", "i"];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const RATE_UNITS: &[(&str, u64)] = &[
    ("Gb/s", 1_000_000_000),
    ("Mb/s", 1_000_000),
    ("kb/s", 1_000),
    ("b/s", 1),
    ("B/s", 8),
    ("kB/s", 8_000),
    ("MB/s", 8_000_000),
    ("GB/s", 8_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_rates_mean_what_they_say() {
        let size = |text: &str| text.parse::<Size>().map(Size::bytes);
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("8192"), Ok(8192));
        assert_eq!(size(" 1.50 MiB"), Ok(1_572_864));
        assert_eq!(size("9kB"), Ok(9000));
        assert_eq!(size("0.5KiB"), Ok(512));
        assert_eq!(size("18446744073709551615"), Ok(u64::MAX));
        let rate = |text: &str| text.parse::<BitRate>().map(BitRate::bits_per_second);
        assert_eq!(rate("10Gb/s"), Ok(10_000_000_000));
        assert_eq!(rate("1.25 GB/s"), Ok(10_000_000_000));
        assert_eq!(rate("0.125B/s"), Ok(1));
        assert_eq!(rate("100b/s"), Ok(100));
        assert_eq!((size("2TiB"), size("1.5TB")), (Ok(2 << 40), Ok(1_500_000_000_000)));
        let ratio = |text: &str| text.parse::<Ratio>().map(Ratio::per_mille);
        assert_eq!((ratio("1"), ratio("1.05"), ratio("12.5")), (Ok(1000), Ok(1050), Ok(12_500)));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let message = |text: &str| text.parse::<Size>().unwrap_err().to_string();
        assert_eq!(
            message("12 Kb"),
            "`12 Kb` is not a size: its unit is none of TiB GiB MiB KiB B kB MB GB TB; did you mean 12KiB or \
             12kB?"
        );
        assert_eq!(message("1.5"), "`1.5` is not a size: it does not come to whole bytes");
        assert!(message("-1").ends_with("write a number of bytes and a unit, such as 10GiB"));
        assert!(message("1.2.3").contains("write a number"));
        assert!(message("").contains("write a number"));
        assert!(message("20000000000000GiB").contains("the most is 18446744073709551615 bytes"));
        assert!(message(&"9".repeat(99)).contains("too many digits"));
        let message = |text: &str| text.parse::<BitRate>().unwrap_err().to_string();
        assert!(message("10Gbps").contains("none of Gb/s Mb/s kb/s b/s B/s kB/s MB/s GB/s"));
        for meant in ["10Gbps", "10gb/s", "10Gbit/s", "10 G", "10gbit"] {
            assert!(
                message(meant).ends_with("did you mean 10Gb/s or 10GB/s?"),
                "{}",
                message(meant)
            );
        }
        assert!(message("10").ends_with("write a unit: Gb/s Mb/s kb/s b/s B/s kB/s MB/s GB/s"));
        assert!(message("10 parsecs").ends_with("GB/s"));
        assert!(message("0.1b/s").contains("whole bits per second"));
        for wrong in ["0.999", "1.0005", "", "x", "-2", "99999999"] {
            let message = wrong.parse::<Ratio>().unwrap_err().to_string();
            let hint = "is not a ratio: write 1 or more, with at most three decimals, such as 1.05";
            assert_eq!(message, format!("`{wrong}` {hint}"));
        }
    }

    #[test]
    fn display_is_exact() {
        assert_eq!(Size(0).to_string(), "0B");
        assert_eq!(Size(9000).to_string(), "9000B");
        assert_eq!(Size(512 << 20).to_string(), "512MiB");
        assert_eq!(BitRate(1_500_000_000).to_string(), "1500Mb/s");
    }

    proptest! {
        #[test]
        fn round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(Size(value).to_string().parse(), Ok(Size(value)));
            prop_assert_eq!(BitRate(value).to_string().parse(), Ok(BitRate(value)));
            let ratio = Ratio(1000 + value as u32 / 2);
            prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
        }

        #[test]
        fn milli_units_are_exact(thousandths in 0u64..10_000_000) {
            let text = format!("{}.{:03}GB", thousandths / 1000, thousandths % 1000);
            prop_assert_eq!(text.parse(), Ok(Size(thousandths * 1_000_000)));
        }

        #[test]
        fn no_text_panics(text: String, tail in "[0-9.]{0,50}[ KkMGibB/s]{0,5}") {
            let _ = (text.parse::<Size>(), text.parse::<BitRate>());
            let _ = (tail.parse::<Size>(), tail.parse::<BitRate>());
        }
    }
}
