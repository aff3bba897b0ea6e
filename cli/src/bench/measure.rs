//! One measurement, and many.

use std::time::{Duration, Instant};

use doorbell::backend::SendError;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use super::load::Load;

/// What was sent in some time, and what it cost.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub seconds: f64,
    /// Of this thread, in user space and in the kernel.
    pub cpu_seconds: f64,
    pub batches: u64,
    pub packets: u64,
    pub messages: u64,
    pub doorbells: u64,
}

impl Sample {
    /// Sends for at least `time`, and at least one batch, after one that warms the caches.
    pub fn take(load: &mut dyn Load, time: Duration) -> Result<Self, SendError> {
        load.send_batch()?;
        load.drain()?;
        let before = load.counters();
        let cpu = cpu_seconds();
        let start = Instant::now();
        let mut batches = 0;
        // A thread that is held up at once for longer than that has still something to divide by.
        while batches == 0 || start.elapsed() < time {
            load.send_batch()?;
            batches += 1;
        }
        load.drain()?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - cpu;
        let after = load.counters();
        Ok(Self {
            seconds,
            cpu_seconds,
            batches,
            packets: after.packets - before.packets,
            messages: after.messages - before.messages,
            doorbells: after.doorbells - before.doorbells,
        })
    }
}

/// CPU time of this thread so far; none, should getrusage(2) fail.
fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0.0, |usage| {
        [usage.user_time(), usage.system_time()]
            .iter()
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6)
            .sum()
    })
}

/// The middle of some measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

#[cfg(test)]
mod tests {
    use doorbell::backend::Counters;

    use super::*;

    /// Batches of one packet.
    #[derive(Default)]
    struct Counting(Counters);

    impl Load for Counting {
        fn send_batch(&mut self) -> Result<(), SendError> {
            self.0.packets += 1;
            Ok(())
        }

        fn drain(&mut self) -> Result<(), SendError> {
            Ok(())
        }

        fn counters(&self) -> Counters {
            self.0
        }
    }

    #[test]
    fn however_short_the_time_something_is_measured() {
        let sample = Sample::take(&mut Counting::default(), Duration::ZERO).unwrap();
        assert_eq!((sample.batches, sample.packets), (1, 1));
        assert!(sample.seconds > 0.0);
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(spread(&[7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
    }
}
