//! When descriptors are due again.

use std::time::Instant;

use doorbell::config::Every;

use super::stream::Stream;

/// How often descriptors are sent, and since when they were not.
pub struct DescriptorClock {
    every: Every,
    heaps: u64,
    since: Instant,
}

impl DescriptorClock {
    /// None if they are sent once; else they just were.
    pub fn start(stream: &Stream) -> Option<Self> {
        let every = match stream.config.heap.descriptors_every? {
            // Turns of heaps that go to one destination each are not broken off.
            Every::Heaps(heaps) => {
                Every::Heaps(heaps.next_multiple_of(stream.destinations.len().max(1) as u64))
            }
            time => time,
        };
        Some(Self { every, heaps: 0, since: Instant::now() })
    }

    /// How many data heaps may go, of which `sent` went, before they are due; none if they are.
    pub fn room(&self, sent: u64) -> u64 {
        match self.every {
            Every::Heaps(heaps) => (self.heaps + heaps).saturating_sub(sent),
            Every::Time(span) if self.since.elapsed() >= span.duration() => 0,
            Every::Time(_) => u64::MAX,
        }
    }

    /// Says that they were sent, before data heap `sent`.
    pub fn restart(&mut self, sent: u64) {
        (self.heaps, self.since) = (sent, Instant::now());
    }
}
