//! When the next frame is due.

use std::time::{Duration, Instant};

use doorbell::pacer::FramePacer;

use super::stream::Stream;

/// A frame rate, and the clock it runs by, which starts with the first frame that is asked for.
pub struct FrameClock {
    pacer: FramePacer,
    /// Destinations, each of which gets a frame at that rate.
    streams: u64,
    start: Option<(u64, Instant)>,
}

impl FrameClock {
    /// None if frames go as fast as they can.
    pub fn start(stream: &Stream) -> Option<Self> {
        let pacer = stream.config.pacing.frame_rate.as_ref()?.pacer();
        let streams = stream.destinations.len().max(1) as u64;
        // A frame that went with the descriptors has started the clock.
        let start = (stream.first_data_heap > 0).then(|| (0, Instant::now()));
        Some(Self { pacer, streams, start })
    }

    /// How long it is until heap `index` may go; none if it may.
    pub fn left(&mut self, index: u64) -> Option<Duration> {
        let (first, start) = *self.start.get_or_insert_with(|| (index, Instant::now()));
        let due = self.pacer.due((index - first) / self.streams);
        due.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
    }
}
