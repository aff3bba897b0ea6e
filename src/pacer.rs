//! How much may go out when.
//!
//! Pure: the caller says what time it is.

use std::time::Duration;

/// A rate to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second, at least 1.
    pub bits_per_second: u64,
    /// Bytes that may go out back to back.
    pub burst: u32,
    /// How much faster a stream that has fallen behind may go, in thousandths of the rate: at 1050 it
    /// makes up for 5 ms in 100; at 1000 and below it never does. spead2 calls it `burst_rate_ratio`.
    pub burst_rate_per_mille: u32,
    /// Which bytes count.
    pub counts: Counted,
}

/// Which bytes count towards a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// All that the wire carries, with the headers of every protocol.
    #[default]
    Wire,
    /// The payload of heaps alone.
    Payload,
}

impl Rate {
    /// A rate on the wire, with spead2's way of catching up: 5% faster.
    pub fn new(bits_per_second: u64, burst: u32) -> Self {
        Self {
            bits_per_second: bits_per_second.max(1),
            burst,
            burst_rate_per_mille: BURST_RATE_PER_MILLE,
            counts: Counted::Wire,
        }
    }
}

/// Spreads bursts evenly over time.
///
/// Time is whatever the caller counts from, as long as it does not go back. The schedule is that of the
/// rate alone, so that nothing is ever rounded: whoever is late goes a little faster until it is met
/// again. Only what was not used because there was nothing to send is gone.
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: Rate,
    /// When the next burst is due, in units of 1 / `bits_per_second` of a nanosecond: a byte takes a
    /// whole number of them.
    due: u128,
    /// When the next burst may start, so as not to catch up too fast; in the same units.
    earliest: u128,
}

impl Pacer {
    /// A pacer whose first burst may go out at once.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate: Rate { bits_per_second: rate.bits_per_second.max(1), ..rate },
            due: 0,
            earliest: 0,
        }
    }

    /// The rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Keeps to another rate from the next burst on. When that may start does not change, but that it
    /// is a whole nanosecond from then on.
    pub fn change_rate(&mut self, rate: Rate) {
        let old = u128::from(self.rate.bits_per_second);
        self.rate = Rate { bits_per_second: rate.bits_per_second.max(1), ..rate };
        let new = u128::from(self.rate.bits_per_second);
        if new != old {
            self.due = self.due.div_ceil(old) * new;
            self.earliest = self.earliest.div_ceil(old) * new;
        }
    }

    /// When the next burst may start. It may if that is not after `now`.
    pub fn next(&self) -> Duration {
        self.duration(self.due.max(self.earliest))
    }

    /// How long the rate takes for `bytes`, to the nanosecond above.
    pub fn time_of(&self, bytes: u64) -> Duration {
        self.duration(u128::from(bytes) * UNITS_PER_BYTE)
    }

    /// Says that a burst of `bytes` went out at `now`, which is not before [`Pacer::next`].
    pub fn spend(&mut self, now: Duration, bytes: u64) {
        let units = u128::from(bytes) * UNITS_PER_BYTE;
        let at_most = u128::from(self.rate.burst_rate_per_mille.max(1000));
        self.due += units;
        self.earliest = self.units(now) + (units * 1000).div_ceil(at_most);
    }

    /// Says that there was nothing to send until `now`. True if that starts a new schedule, as all but
    /// short pauses do: those are a scheduler's that had somebody else to run.
    pub fn resume(&mut self, now: Duration) -> bool {
        // Before the first burst, all there was is preparation.
        let is_first = self.due == 0 && self.earliest == 0;
        let is_idle = is_first || now.saturating_sub(self.next()) > SHORT_PAUSE;
        if is_idle {
            self.due = self.units(now);
        }
        is_idle
    }

    fn units(&self, time: Duration) -> u128 {
        time.as_nanos() * u128::from(self.rate.bits_per_second)
    }

    fn duration(&self, units: u128) -> Duration {
        let nanoseconds = units.div_ceil(u128::from(self.rate.bits_per_second));
        // 2^64 ns are 584 years.
        Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX))
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
    /// `frames` in `seconds`, at least one each.
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
/// spead2's default.
const BURST_RATE_PER_MILLE: u32 = 1050;
/// A few time slices of Linux's scheduler.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bursts_of_64_kib_at_40_gigabits_are_13107_2_nanoseconds_apart() {
        let mut pacer = Pacer::new(Rate::new(40_000_000_000, 65536));
        for _ in 0..5_000_000 {
            pacer.spend(pacer.next(), 65536);
        }
        assert_eq!(pacer.next(), Duration::from_nanos(65_536_000_000));
    }

    /// Of late starts, the schedule knows nothing: after a day it is where it was to be.
    #[test]
    fn a_day_does_not_drift() {
        let bytes = 7 * 1_000_003;
        let mut pacer = Pacer::new(Rate::new(999_999_937, 65536));
        let day = Duration::from_secs(86_400);
        let mut bursts = 0_u128;
        while pacer.next() < day {
            pacer.spend(pacer.next() + Duration::from_nanos((bursts % 1000) as u64), bytes);
            bursts += 1;
        }
        let exact = (bursts * u128::from(bytes) * UNITS_PER_BYTE).div_ceil(999_999_937);
        assert_eq!(pacer.duration(pacer.due).as_nanos(), exact);
    }

    #[test]
    fn who_is_late_catches_up_5_percent_faster() {
        let mut pacer = Pacer::new(Rate::new(8_000_000_000, 1000));
        let late = Duration::from_millis(5);
        let mut now = late;
        // 1 us each.
        for burst in 1..=107_000 {
            pacer.spend(now, 1000);
            let start = pacer.next();
            assert!(start - now >= Duration::from_nanos(952), "burst {burst}");
            now = start;
        }
        assert_eq!(now, Duration::from_millis(107));
    }

    #[test]
    fn without_a_higher_rate_nothing_is_caught_up() {
        let rate = Rate { burst_rate_per_mille: 1000, ..Rate::new(8_000_000_000, 1000) };
        let mut pacer = Pacer::new(rate);
        pacer.spend(Duration::from_micros(7), 1000);
        assert_eq!(pacer.next(), Duration::from_micros(8));
    }

    #[test]
    fn idleness_is_not_caught_up() {
        let mut pacer = Pacer::new(Rate::new(8_000, 1));
        assert_eq!(pacer.next(), Duration::ZERO);
        assert!(pacer.resume(Duration::from_millis(1)));
        assert_eq!(pacer.next(), Duration::from_millis(1));
        let late = Duration::from_secs(10);
        assert!(pacer.resume(late));
        pacer.spend(late, 1000);
        assert_eq!(pacer.next(), late + Duration::from_secs(1));
        // Of a second that was asked for, a pause of 9 ms is not idleness.
        assert!(!pacer.resume(late + Duration::from_millis(1009)));
        assert_eq!(pacer.next(), late + Duration::from_secs(1));
    }

    #[test]
    fn rates_change_from_burst_to_burst() {
        let mut pacer = Pacer::new(Rate::new(3, 1));
        pacer.spend(Duration::ZERO, 1);
        assert_eq!(pacer.next(), Duration::from_nanos(2_666_666_667));
        pacer.change_rate(Rate::new(8_000_000_000, 1));
        assert_eq!(pacer.next(), Duration::from_nanos(2_666_666_667));
        pacer.spend(pacer.next(), 1);
        assert_eq!(pacer.next(), Duration::from_nanos(2_666_666_668));
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

        /// Whatever the schedule of calls and pauses: from the start on no more goes out than the rate and
        /// a burst allow, and between any two bursts no more than the higher rate and a burst do.
        #[test]
        fn the_rate_is_kept(
            bits_per_second in 1_000_u64..100_000_000_000,
            burst in 1_u32..1_000_000,
            per_mille in 900_u32..2000,
            waits in prop::collection::vec((0_u64..30_000_000, prop::bool::ANY), 1..60),
        ) {
            let rate = Rate { burst_rate_per_mille: per_mille, ..Rate::new(bits_per_second, burst) };
            let (mut pacer, mut now, mut starts) = (Pacer::new(rate), Duration::ZERO, Vec::new());
            for (wait, idle) in waits {
                let ready = now.max(pacer.next());
                now = ready + Duration::from_nanos(wait);
                if idle {
                    pacer.resume(now);
                }
                starts.push(now);
                pacer.spend(now, burst.into());
            }
            let bytes = |from: usize, to: usize| (to - from) as u128 * u128::from(burst);
            let allowed = |time: Duration, per_mille: u32| {
                time.as_nanos() * u128::from(bits_per_second) * u128::from(per_mille)
                    / 1000 / UNITS_PER_BYTE + u128::from(burst) + 1
            };
            for (to, end) in starts.iter().enumerate() {
                prop_assert!(bytes(0, to + 1) <= allowed(*end, 1000));
                for (from, start) in starts[..to].iter().enumerate() {
                    prop_assert!(bytes(from, to + 1) <= allowed(*end - *start, per_mille.max(1000)));
                }
            }
        }
    }
}
