//! Which values integers stand for.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{SampleType, Samples};

/// The values from the one that the integer 0 stands for to that of the largest integer, written
/// `LOW..HIGH`. Both are finite, and so far apart that there are steps between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    /// From 0 to 1.
    pub const UNIT: Self = Self { low: 0.0, high: 1.0 };

    /// From `low` to `high`.
    ///
    /// # Errors
    ///
    /// Unless both are finite, `low` is less than `high`, and their difference and its parts are
    /// numbers that 64-bit floats have.
    pub fn new(low: f64, high: f64) -> Result<Self, InvalidInterval> {
        let steps_per_unit = MOST_STEPS / (high - low);
        match low < high && steps_per_unit.is_normal() {
            true => Ok(Self { low, high }),
            false => Err(InvalidInterval { text: format!("{low}..{high}") }),
        }
    }

    /// From the least to the greatest of those samples that are finite.
    ///
    /// # Errors
    ///
    /// If there are less than two different ones.
    pub fn of<'a>(kind: SampleType, samples: impl Into<Samples<'a>>) -> Result<Self, NoInterval> {
        let samples = samples.into();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut values = [[0; size_of::<f64>()]; BLOCK];
        let mut copied = [0; BLOCK * size_of::<f64>()];
        for (block, _) in samples.blocks(BLOCK * kind.size()) {
            let block = block.read(&mut copied);
            let values = &mut values[..block.len() / kind.size()];
            kind.load(block, values);
            for value in values.iter().map(|bytes| f64::from_le_bytes(*bytes)) {
                low = if value.is_finite() && value < low { value } else { low };
                high = if value.is_finite() && value > high { value } else { high };
            }
        }
        let wrong = match low.partial_cmp(&high) {
            Some(Ordering::Greater) => "the first heap has no finite sample".into(),
            Some(Ordering::Equal) => format!("all finite samples of the first heap are {low}"),
            _ => format!("the samples of the first heap are {low} to {high}, which has no steps"),
        };
        Self::new(low, high).map_err(|_| NoInterval { reason: wrong })
    }

    /// The value of integer 0.
    pub fn low(self) -> f64 {
        self.low
    }

    /// The value of the largest integer.
    pub fn high(self) -> f64 {
        self.high
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.low, self.high)
    }
}

impl FromStr for Interval {
    type Err = InvalidInterval;

    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        let invalid = || InvalidInterval { text: text.to_owned() };
        let (low, high) = text.split_once("..").ok_or_else(invalid)?;
        let number = |text: &str| text.trim().parse().map_err(|_| invalid());
        Self::new(number(low)?, number(high)?).map_err(|_| invalid())
    }
}

/// What is no [`Interval`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a range: write LOW..HIGH, two numbers of which the first is less: 0..1")]
pub struct InvalidInterval {
    text: String,
}

/// Why samples give no [`Interval`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}, and integers need a range to stand for: give it, as LOW..HIGH")]
pub struct NoInterval {
    reason: String,
}

/// Samples looked at at once.
const BLOCK: usize = 512;
/// Those of 16 bits.
const MOST_STEPS: f64 = 65_535.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_steps_is_refused() {
        for wrong in
            ["", "1", "0..", "..1", "1..1", "2..1", "a..b", "0..inf", "nan..1", "0..1e-320"]
        {
            let message = wrong.parse::<Interval>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{wrong}` is not a range: write LOW..HIGH")));
        }
        assert!(Interval::new(f64::MIN, f64::MAX).is_err(), "the difference is infinite");
        assert_eq!("-1.5..2e3".parse(), Interval::new(-1.5, 2000.0));
    }

    proptest! {
        #[test]
        fn round_trip(low: f64, high: f64) {
            if let Ok(interval) = Interval::new(low, high) {
                prop_assert_eq!(interval.to_string().parse(), Ok(interval));
            }
        }

        #[test]
        fn no_text_panics(text: String, near in r"-?[0-9.e]{0,9}\.\.-?[0-9.e]{0,9}") {
            let _ = (text.parse::<Interval>(), near.parse::<Interval>());
        }
    }
}
