//! How often a time was how long.

use std::time::Duration;

/// Counts times in buckets, each of which reaches twice as far as the one before; takes no memory but
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Bucket `n` counts the times below 2^n ns that no bucket before it counts.
    counts: [u64; BUCKETS],
    longest: Duration,
}

impl Histogram {
    /// With nothing in it.
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], longest: Duration::ZERO }
    }

    /// Counts a time.
    pub fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - nanoseconds.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.longest = self.longest.max(time);
    }

    /// How many times there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest of them, zero if there is none.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// What `per_mille` thousandths of all times do not exceed: the end of a bucket, but never more than
    /// [`Histogram::longest`].
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = u128::from(self.total()) * u128::from(per_mille);
        let mut below = 0_u128;
        for (end, count) in self.buckets() {
            below += u128::from(count);
            if below * 1000 >= rank {
                return end.min(self.longest);
            }
        }
        self.longest
    }

    /// Where each bucket ends, and how many times it has; from the first to the last that has any.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let has_any = |count: &u64| *count > 0;
        let first = self.counts.iter().position(has_any).unwrap_or(0);
        let end = self.counts.iter().rposition(has_any).map_or(0, |last| last + 1);
        (first..end.max(first))
            .map(|bucket| (Duration::from_nanos(1 << bucket), self.counts[bucket]))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The last one takes all from 2^38 ns on, which are five minutes.
const BUCKETS: usize = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_one_has_no_buckets() {
        let histogram = Histogram::new();
        assert_eq!((histogram.total(), histogram.buckets().count()), (0, 0));
        assert_eq!(histogram.quantile(500), Duration::ZERO);
    }

    #[test]
    fn what_takes_for_ever_is_counted_too() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::MAX);
        assert_eq!((histogram.total(), histogram.longest()), (1, Duration::MAX));
    }

    proptest! {
        /// No quantile is below the true one, or twice as much.
        #[test]
        fn quantiles_are_those_of_the_times(
            mut times in prop::collection::vec(0_u64..1 << 37, 1..200), per_mille in 0_u64..=1000,
        ) {
            let mut histogram = Histogram::new();
            times.iter().for_each(|time| histogram.record(Duration::from_nanos(*time)));
            times.sort_unstable();
            prop_assert_eq!(histogram.total(), times.len() as u64);
            let rank = (times.len() * per_mille as usize).div_ceil(1000).max(1);
            let exact = times[rank - 1];
            let found = histogram.quantile(per_mille).as_nanos() as u64;
            prop_assert!(exact <= found && found <= (2 * exact).max(1), "{exact} {found}");
        }
    }
}
