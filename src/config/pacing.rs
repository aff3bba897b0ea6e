//! How fast packets go.

use super::keys::{BURST, PACING, RATE};
use super::{ConfigError, FrameRate, PacingMode, PacingOptions, Rate, Size};
use crate::pacer;

/// How fast packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// The rate to keep to, at least 1 bit per second in bursts of at least 1 byte; `None` is as fast
    /// as it goes.
    pub rate: Option<pacer::Rate>,
    /// Who keeps to the rate.
    pub mode: PacingMode,
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
        (None, _) if options.burst.is_some() => {
            return Err(ConfigError::missing(
                RATE,
                format!("{BURST} needs one to keep to, such as 10Gb/s"),
            ));
        }
        _ => {}
    }
    let burst = options.burst.unwrap_or(BURST_DEFAULT);
    let bytes = u32::try_from(burst.bytes()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
        let hint = "give at least a packet and less than 4GiB, such as 64KiB";
        ConfigError::unusable(BURST, burst, hint)
    })?;
    let pace = |rate: Rate| pacer::Rate { bits_per_second: rate.bits_per_second(), burst: bytes };
    let hold_back = options.hold_back.unwrap_or_default();
    let frame_rate = options.frame_rate.clone();
    Ok(PacingConfig { rate: options.rate.map(pace), mode, frame_rate, hold_back })
}

const BURST_DEFAULT: Size = Size::from_bytes(64 << 10);
