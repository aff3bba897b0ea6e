//! Who keeps to the rate, and when frames are due.

use std::time::{Duration, Instant};

use super::StreamError;
use crate::backend::OpenError;
use crate::pacer::FramePacer;
use crate::sender::Sender;
use crate::settings::keys::PACING;
use crate::settings::{PacingMode, PacingSettings};

/// Has the hardware keep to the rate if it can and may, else the sender. Returns which.
pub(super) fn pace(
    sender: &mut Sender,
    pacing: &PacingSettings,
) -> Result<&'static str, StreamError> {
    let Some(rate) = pacing.pacer_rate() else { return Ok("none") };
    if pacing.mode != PacingMode::Software && sender.pace_in_hardware(rate)? {
        return Ok("hardware");
    }
    if pacing.mode == PacingMode::Hardware {
        return Err(StreamError::Open(OpenError::new(
            "pace by hardware",
            sender.caps().name,
            format!(
                "it does not keep to this rate; see `doorbell devices`, or set {PACING} to software"
            ),
        )));
    }
    sender.set_min_sleep(pacing.min_sleep());
    sender.pace(Some(rate));
    Ok("software")
}

/// How long the rate takes for a burst: it may be so low that this is longer than anything else.
pub(super) fn burst_time(pacing: &PacingSettings, packet_size: usize) -> Duration {
    let seconds = pacing.pacer_rate().map_or(0.0, |rate| {
        let largest = f64::from(rate.burst).max(packet_size as f64);
        largest * 8.0 / rate.bits_per_second as f64
    });
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

/// A frame rate, and the clock it runs by, which starts with the first frame.
pub(super) struct FrameClock {
    pacer: FramePacer,
    /// Destinations, each of which gets a frame at that rate.
    streams: u64,
    start: Option<Instant>,
    /// Before which no frame goes.
    earliest: Instant,
}

impl FrameClock {
    /// None if frames go as fast as they can; else none of them goes for a time of `preparation`.
    pub(super) fn new(
        pacing: &PacingSettings,
        destinations: usize,
        preparation: Duration,
    ) -> Option<Self> {
        let pacer = pacing.frame_rate.as_ref()?.pacer();
        let earliest = Instant::now() + preparation;
        Some(Self { pacer, streams: destinations.max(1) as u64, start: None, earliest })
    }

    /// When heap `index` is due.
    pub(super) fn due(&mut self, index: u64) -> Instant {
        let start = *self.start.get_or_insert_with(|| Instant::now().max(self.earliest));
        start + self.pacer.due(index / self.streams)
    }
}
