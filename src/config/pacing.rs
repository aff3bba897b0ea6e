//! How fast packets go.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::keys::{BURST, BURST_RATE_RATIO, PACING, RATE, RATE_COUNTS};
use super::value::{choice, number, text};
use super::{ConfigError, FrameRate, PacingMode, Rate, Ratio, Size};
use crate::pacer::{self, Counted};
use crate::sender::MIN_SLEEP;

/// The section `[pacing]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Pacing")]
#[serde(default, deny_unknown_fields)]
pub struct PacingOptions {
    /// Rate, such as 10Gb/s or 1.25GB/s [default: as fast as it goes]
    #[arg(id = "pacing.rate", long = "rate", value_name = "RATE")]
    #[serde(with = "text")]
    pub rate: Option<Rate>,

    /// Which bytes count towards the rate: all on the wire, or the payload of heaps [default: wire]
    #[arg(
        id = "pacing.rate_counts",
        long = "rate-counts",
        value_name = "wire|payload",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub rate_counts: Option<Counted>,

    /// Most that may go at once while keeping to the rate, but at least one packet [default: what takes 1 ms, up
    /// to 64KiB]
    #[arg(id = "pacing.burst", long = "burst", value_name = "SIZE")]
    #[serde(with = "text")]
    pub burst: Option<Size>,

    /// How much faster than the rate a stream that has fallen behind may go; 1 is never [default: 1.05]
    #[arg(id = "pacing.burst_rate_ratio", long = "burst-rate-ratio", value_name = "RATIO")]
    #[serde(with = "text")]
    pub burst_rate_ratio: Option<Ratio>,

    /// Shortest pause between bursts to sleep in: the end of longer ones, and shorter ones, are waited for on
    /// the CPU, which is more exact [default: 100]
    #[arg(id = "pacing.min_sleep_us", long = "min-sleep-us", value_name = "MICROSECONDS")]
    #[serde(deserialize_with = "number")]
    pub min_sleep_us: Option<u32>,

    /// Who keeps to the rate [default: auto, the hardware where it can]
    #[arg(
        id = "pacing.mode",
        long = "pacing",
        value_name = "auto|software|hardware|none",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub mode: Option<PacingMode>,

    /// Heaps a second, for each destination, such as 60, 29.97 or 30000/1001: one is sent when it is due
    /// [default: as fast as it goes]
    #[arg(id = "pacing.frame_rate", long = "frame-rate", value_name = "HZ")]
    #[serde(with = "text")]
    pub frame_rate: Option<FrameRate>,

    /// Wait while receivers' sockets, on this machine, are full, so that UDP loses nothing [default: false]
    #[arg(
        id = "pacing.hold_back",
        long = "hold-back",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub hold_back: Option<bool>,
}

impl PacingOptions {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            rate: self.rate.or(other.rate),
            rate_counts: self.rate_counts.or(other.rate_counts),
            burst: self.burst.or(other.burst),
            burst_rate_ratio: self.burst_rate_ratio.or(other.burst_rate_ratio),
            min_sleep_us: self.min_sleep_us.or(other.min_sleep_us),
            mode: self.mode.or(other.mode),
            frame_rate: self.frame_rate.or(other.frame_rate),
            hold_back: self.hold_back.or(other.hold_back),
        }
    }
}

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
        min_sleep: options
            .min_sleep_us
            .map_or(MIN_SLEEP, |pause| Duration::from_micros(pause.into())),
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
