//! How fast packets go.

use std::time::Duration;

use super::keys::{BURST, BURST_RATE_RATIO, PACING, RATE, RATE_COUNTS};
use super::{ConfigError, FrameRate, PacingMode, PacingOptions, Rate, Size};
use crate::pacer::{self, Counted};

/// How fast packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// The rate to keep to, at least 1 bit per second in bursts of at least 1 byte; `None` is as fast
    /// as it goes.
    pub rate: Option<pacer::Rate>,
    /// Who keeps to the rate.
    pub mode: PacingMode,
    /// Pauses between bursts no longer than that are not slept through, nor the end of longer ones.
    pub min_sleep: Duration,
    /// Heaps a second, for each destination; `None` is as fast as it goes.
    pub frame_rate: Option<FrameRate>,
    /// Whether to wait while the receivers' sockets, on this machine, are full.
    pub hold_back: bool,
}

pub(super) fn pacing(options: &PacingOptions) -> Result<PacingConfig, ConfigError> {
    let mode = options.mode.unwrap_or_default();
    match (options.rate, mode) {
        (Some(rate), _) if rate.bits_per_second() == 0 => {
            let hint = "give a rate such as 10Gb/s, or leave it out to go as fast as it goes";
            return Err(ConfigError::unusable(RATE, rate, hint));
        }
        (Some(_), PacingMode::None) => {
            let hint = "with pacing none nobody keeps to a rate; drop one of the two";
            return Err(ConfigError::conflict(RATE, PACING, hint));
        }
        (None, PacingMode::Software | PacingMode::Hardware) => {
            return Err(ConfigError::missing(
                RATE,
                format!("{PACING} needs one to keep to, such as 10Gb/s"),
            ));
        }
        (None, _) => {
            let of_a_rate = [
                (RATE_COUNTS, options.rate_counts.is_some()),
                (BURST, options.burst.is_some()),
                (BURST_RATE_RATIO, options.burst_rate_ratio.is_some()),
            ];
            if let Some((key, _)) = of_a_rate.into_iter().find(|(_, given)| *given) {
                let hint = format!("{key} needs one to keep to, such as 10Gb/s");
                return Err(ConfigError::missing(RATE, hint));
            }
        }
        (Some(_), PacingMode::Hardware) if options.rate_counts == Some(Counted::Payload) => {
            let hint = "hardware counts what is on the wire; take software, or count that";
            return Err(ConfigError::conflict(RATE_COUNTS, PACING, hint));
        }
        _ => {}
    }
    let rate = options.rate.map(|rate| {
        let mut rate = pacer::Rate::new(rate.bits_per_second(), burst(options.burst, rate)?);
        rate.counts = options.rate_counts.unwrap_or(rate.counts);
        if let Some(ratio) = options.burst_rate_ratio {
            rate.burst_rate_per_mille = ratio.per_mille();
        }
        Ok(rate)
    });
    Ok(PacingConfig {
        rate: rate.transpose()?,
        mode,
        min_sleep: Duration::from_micros(options.min_sleep_us.unwrap_or(MIN_SLEEP_US).into()),
        frame_rate: options.frame_rate.clone(),
        hold_back: options.hold_back.unwrap_or_default(),
    })
}

/// What is given, else what takes a millisecond: at low rates, larger bursts would come at long intervals.
fn burst(given: Option<Size>, rate: Rate) -> Result<u32, ConfigError> {
    let burst = given.unwrap_or_else(|| {
        let in_a_millisecond = Size::from_bytes((rate.bits_per_second() / 8000).max(1));
        in_a_millisecond.min(LARGEST_BURST)
    });
    u32::try_from(burst.bytes()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
        let hint = "give at least 1 byte, which is a packet, and less than 4GiB, such as 64KiB";
        ConfigError::unusable(BURST, burst, hint)
    })
}

/// What spead2 takes, and as much as segmentation offload takes at once.
const LARGEST_BURST: Size = Size::from_bytes(64 << 10);
/// Longer than the usual timer slack and a wake-up together.
const MIN_SLEEP_US: u32 = 100;
