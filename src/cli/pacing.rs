//! Who keeps to the rate.

use doorbell::backend::OpenError;
use doorbell::config::PacingMode;
use doorbell::pacer::Rate;
use doorbell::sender::Sender;
use nix::sys::prctl::set_timerslack;

use super::exit::Failure;
use super::stream::Stream;

/// Has the hardware keep to the rate if it can and may, else the sender. Returns which.
pub fn pace(sender: &mut Sender, stream: &Stream) -> Result<&'static str, Failure> {
    let pacing = &stream.config.pacing;
    let Some(rate) = pacing.rate else { return Ok("none") };
    if pacing.mode != PacingMode::Software && sender.pace_in_hardware(rate)? {
        return Ok("hardware");
    }
    if pacing.mode == PacingMode::Hardware {
        return Err(Failure::Open(OpenError::new(
            "pace by hardware",
            stream.way.backend(),
            "it does not keep to this rate; see `doorbell devices`, or use --pacing software",
        )));
    }
    // Sleeps of this thread may be late by 50 us otherwise (prctl(2)).
    let _ = set_timerslack(1);
    sender.min_sleep(pacing.min_sleep);
    sender.pace(Some(rate));
    Ok("software")
}

/// In units of a thousand million bits per second.
pub fn gbit_per_s(rate: Rate) -> f64 {
    rate.bits_per_second as f64 * 1e-9
}
