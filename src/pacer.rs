//! How much may go out when.
//!
//! Pure: the caller says what time it is.

use std::time::Duration;

/// A rate to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second on the wire, at least 1.
    pub bits_per_second: u64,
    /// Bytes that may go out back to back.
    pub burst: u32,
}

/// Spreads bursts evenly over time.
///
/// Time is whatever the caller counts from, as long as it does not go back. What was not used while
/// the stream had nothing to send is gone: there is no catching up.
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: Rate,
    /// When the next burst may start, in units of 1 / `bits_per_second` of a nanosecond: a byte
    /// takes a whole number of them, so that nothing is ever rounded.
    next: u128,
}

impl Pacer {
    /// A pacer whose first burst may go out at once.
    pub fn new(rate: Rate) -> Self {
        Self { rate: Rate { bits_per_second: rate.bits_per_second.max(1), ..rate }, next: 0 }
    }

    /// The rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// When the next burst may start. It may if that is not after `now`.
    pub fn next(&self) -> Duration {
        let nanoseconds = self.next.div_ceil(u128::from(self.rate.bits_per_second));
        // 2^64 ns are 584 years.
        Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX))
    }

    /// Says that `bytes` went out at `now`.
    pub fn spend(&mut self, now: Duration, bytes: u64) {
        let now = now.as_nanos() * u128::from(self.rate.bits_per_second);
        // A caller that woke up late by less than a burst keeps to the schedule; later ones start
        // a new one.
        let tolerance = u128::from(self.rate.burst) * UNITS_PER_BYTE;
        let start = if self.next + tolerance < now { now } else { self.next };
        self.next = start + u128::from(bytes) * UNITS_PER_BYTE;
    }
}

/// Says when each of evenly spaced frames is due, the first one at once.
///
/// Each time follows from the number of the frame alone, so no error adds up, however long it goes on
/// and however late single frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePacer {
    frames: u64,
    seconds: u64,
}

impl FramePacer {
    /// So many frames in so many seconds, at least one each.
    pub fn new(frames: u64, seconds: u64) -> Self {
        Self { frames: frames.max(1), seconds: seconds.max(1) }
    }

    /// How long after the first frame that one is due, the first being number 0: to the nanosecond, and
    /// never early.
    pub fn due(&self, frame: u64) -> Duration {
        // Whole periods of `seconds` first: what is left has less than `frames` frames.
        let (periods, rest) = (frame / self.frames, frame % self.frames);
        let whole = u128::from(periods) * u128::from(self.seconds);
        let nanoseconds = u128::from(rest) * u128::from(self.seconds);
        let (seconds, part) =
            (nanoseconds / u128::from(self.frames), nanoseconds % u128::from(self.frames));
        let part = (part * NANOSECONDS).div_ceil(u128::from(self.frames));
        let total = (whole + seconds).saturating_mul(NANOSECONDS) + part;
        Duration::from_nanos(total.try_into().unwrap_or(u64::MAX))
    }
}

const NANOSECONDS: u128 = 1_000_000_000;
/// 8 bits, in nanoseconds.
const UNITS_PER_BYTE: u128 = 8 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bursts_of_64_kib_at_40_gigabits_are_13107_2_nanoseconds_apart() {
        let mut pacer = Pacer::new(Rate { bits_per_second: 40_000_000_000, burst: 65536 });
        for _ in 0..5_000_000 {
            pacer.spend(pacer.next(), 65536);
        }
        assert_eq!(pacer.next(), Duration::from_nanos(65_536_000_000));
    }

    #[test]
    fn idleness_is_not_caught_up() {
        let mut pacer = Pacer::new(Rate { bits_per_second: 8_000, burst: 1 });
        assert_eq!(pacer.next(), Duration::ZERO);
        let late = Duration::from_secs(10);
        pacer.spend(late, 1000);
        assert_eq!(pacer.next(), late + Duration::from_secs(1));
    }

    #[test]
    fn frames_of_television_do_not_drift() {
        let pacer = FramePacer::new(30_000, 1001);
        assert_eq!(pacer.due(0), Duration::ZERO);
        assert_eq!(pacer.due(1), Duration::from_nanos(33_366_667));
        assert_eq!(pacer.due(30_000), Duration::from_secs(1001));
        // After a year, still to the nanosecond.
        assert_eq!(pacer.due(30_000 * 31_536), Duration::from_secs(1001 * 31_536));
        assert_eq!(FramePacer::new(1, u64::MAX).due(u64::MAX), Duration::from_nanos(u64::MAX));
    }

    proptest! {
        /// Never early, and less than a nanosecond late.
        #[test]
        fn frames_are_due_when_the_rate_says(
            frames in 1_u64..1_000_000, seconds in 1_u64..100_000, frame in 0_u64..1_000_000_000,
        ) {
            let pacer = FramePacer::new(frames, seconds);
            let due = pacer.due(frame).as_nanos();
            let exact = u128::from(frame) * u128::from(seconds) * 1_000_000_000;
            prop_assume!(exact / u128::from(frames) < u128::from(u64::MAX));
            prop_assert_eq!(due, exact.div_ceil(u128::from(frames)));
            prop_assert!(pacer.due(frame + 1).as_nanos() >= due);
        }

        /// Whatever the schedule of calls, no more goes out than the rate and a burst allow.
        #[test]
        fn the_rate_is_kept(
            bits_per_second in 1_000_u64..100_000_000_000,
            burst in 1_u32..1_000_000,
            idle in prop::collection::vec(0_u64..1_000_000, 1..100),
        ) {
            let mut pacer = Pacer::new(Rate { bits_per_second, burst });
            let mut now = Duration::ZERO;
            let mut sent = 0_u128;
            for idle in idle {
                now = now.max(pacer.next()) + Duration::from_nanos(idle);
                pacer.spend(now, u64::from(burst));
                sent += u128::from(burst);
                let allowed = now.as_nanos() * u128::from(bits_per_second) / UNITS_PER_BYTE;
                // The burst now, and one that was late.
                prop_assert!(sent <= allowed + 2 * u128::from(burst) + 1);
            }
        }
    }
}
