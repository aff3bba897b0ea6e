//! How evenly packets went.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;

/// By how much the times between bursts differed from what the rate asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Jitter {
    /// Times between two bursts.
    pub intervals: u64,
    /// What half of them are not above, in microseconds.
    pub median_us: f64,
    /// What 99% of them are not above.
    pub p99_us: f64,
    /// The worst.
    pub worst_us: f64,
    /// How many there are of which size, from the least to the greatest.
    pub histogram: Vec<Bucket>,
}

/// Those that are not in the bucket before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// Where it ends, in microseconds.
    pub below_us: f64,
    /// How many there are.
    pub intervals: u64,
}

impl Jitter {
    /// None if there were no two bursts.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let buckets = histogram
            .buckets()
            .map(|(end, intervals)| Bucket { below_us: microseconds(end), intervals });
        (histogram.total() > 0).then(|| Self {
            intervals: histogram.total(),
            median_us: microseconds(histogram.quantile(500)),
            p99_us: microseconds(histogram.quantile(990)),
            worst_us: microseconds(histogram.longest()),
            histogram: buckets.collect(),
        })
    }
}

impl fmt::Display for Jitter {
    /// The figures and a picture: a bar for each bucket, as high as it is full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fullest = self.histogram.iter().map(|bucket| bucket.intervals).max().unwrap_or(1);
        let bars: String = self
            .histogram
            .iter()
            .map(|bucket| match bucket.intervals {
                0 => ' ',
                some => BARS[(some * (BARS.len() as u64 - 1) / fullest) as usize],
            })
            .collect();
        write!(
            f,
            "half within {}, 99% within {}, the worst {}; {} {bars} {}",
            Time(self.median_us),
            Time(self.p99_us),
            Time(self.worst_us),
            Time(self.histogram.first().map_or(0.0, |bucket| bucket.below_us)),
            Time(self.histogram.last().map_or(0.0, |bucket| bucket.below_us)),
        )
    }
}

/// Microseconds, to about two digits.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            us if us < 1.0 => (us * 1e3, "ns"),
            us if us < 1000.0 => (us, "us"),
            us if us < 1e6 => (us * 1e-3, "ms"),
            us => (us * 1e-6, "s"),
        };
        let digits = usize::from(value < 10.0 && unit != "ns");
        write!(f, "{value:.digits$} {unit}")
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 * 1e-3
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let mut histogram = Histogram::new();
        assert!(Jitter::of(&histogram).is_none());
        for microseconds in [1, 1, 1, 1, 3, 12, 2500] {
            histogram.record(Duration::from_micros(microseconds));
        }
        assert_eq!(
            Jitter::of(&histogram).unwrap().to_string(),
            "half within 1.0 us, 99% within 2.5 ms, the worst 2.5 ms; 1.0 us █ ▂ ▂       ▂ 4.2 ms"
        );
    }
}
