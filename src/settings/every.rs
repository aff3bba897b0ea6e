//! Spans of time, and how often something happens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::InvalidValue;

/// A span of time above 0, written with a unit: `2s`, `500ms`, `1.5min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// The span.
    pub fn duration(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        let seconds = number.parse::<f64>().ok()? * scale;
        let span = Duration::try_from_secs_f64(seconds).ok()?;
        (!span.is_zero() && span < LONGEST).then_some(Self(span))
    }
}

impl FromStr for Span {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hint = "write a number above 0 and one of ms s min h, such as 2s";
        Self::parse(text.trim()).ok_or_else(|| InvalidValue::new(text, "a span of time", hint))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

/// How often something happens: after a number of heaps, `1000`, or a time, `10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After this many heaps, at least 1.
    Heaps(u64),
    /// After this time.
    Time(Span),
}

impl FromStr for Every {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let heaps = text.trim().parse().ok().filter(|&heaps| heaps > 0).map(Self::Heaps);
        heaps.or_else(|| Span::parse(text.trim()).map(Self::Time)).ok_or_else(|| {
            let hint = "write a number of heaps, such as 1000, or a time, such as 10s";
            InvalidValue::new(text, "how often", hint)
        })
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heaps(heaps) => heaps.fmt(f),
            Self::Time(span) => span.fmt(f),
        }
    }
}

/// In seconds.
const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)];
/// Ten years, of which every nanosecond has its decimals.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heaps_or_time() {
        let parse = |text: &str| text.parse::<Every>().unwrap();
        assert_eq!(parse("1000"), Every::Heaps(1000));
        assert_eq!(parse("10s"), Every::Time(Span(Duration::from_secs(10))));
        assert_eq!(parse("1.5 min"), Every::Time(Span(Duration::from_secs(90))));
        for text in ["", "0", "-1", "1.5", "0s", "s", "10 days", "1e3s", "9999999999h", "1.2.3s"] {
            let message = text.parse::<Every>().unwrap_err().to_string();
            assert!(message.ends_with("such as 1000, or a time, such as 10s"), "{message}");
        }
        for text in ["", "2", "0ms", "-1s"] {
            let message = text.parse::<Span>().unwrap_err().to_string();
            assert!(message.ends_with("one of ms s min h, such as 2s"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(milliseconds in 1_u64..1_000_000_000, heaps in 1_u64..) {
            let span: Span = format!("{milliseconds}ms").parse().unwrap();
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            let every: Every = heaps.to_string().parse().unwrap();
            prop_assert_eq!(every.to_string().parse(), Ok(every));
        }

        #[test]
        fn no_text_panics(text: String, near in "[0-9.]{0,12}[a-z ]{0,4}") {
            let _ = (text.parse::<Every>(), near.parse::<Every>(), near.parse::<Span>());
        }
    }
}
