//! How fast packets go.

use std::time::Duration;

use super::keys::{BURST, BURST_RATE_RATIO, HOLD_BACK, PACING, RATE, RATE_COUNTS};
use super::{
    BitRate, FrameRate, Key, PacingMode, Ratio, Row, Section, Settings, SettingsError, Size,
};
use crate::pacer::{self, Counted};
use crate::sender::MIN_SLEEP;

pub(super) const SECTION: Section<Settings> = Section {
    name: "pacing",
    title: "Pacing",
    settings: &[
        Row::optional(
            RATE,
            "rate",
            "RATE",
            "Rate, such as 10Gb/s or 1.25GB/s",
            "as fast as it goes",
            |it| &mut it.pacing.rate,
        )
        .dashes(),
        Row::optional(
            RATE_COUNTS,
            "rate_counts",
            "wire|payload",
            "Which bytes count towards the rate: all on the wire, or the payload of heaps",
            "wire",
            |it| &mut it.pacing.rate_counts,
        )
        .choice(),
        Row::optional(
            BURST,
            "burst",
            "SIZE",
            "Most that may go at once while keeping to the rate, but at least one packet",
            "what takes 1 ms, up to 64KiB",
            |it| &mut it.pacing.burst,
        )
        .dashes(),
        Row::optional(
            BURST_RATE_RATIO,
            "burst_rate_ratio",
            "RATIO",
            "How much faster than the rate a stream that has fallen behind may go; 1 is never",
            "1.05",
            |it| &mut it.pacing.burst_rate_ratio,
        )
        .dashes(),
        Row::one(
            Key::new("pacing.min_sleep_us"),
            "min_sleep_us",
            "MICROSECONDS",
            "Shortest pause between bursts to sleep in: the end of longer ones, and shorter ones, are waited \
             for on the CPU, which is more exact",
            "100",
            |it| &mut it.pacing.min_sleep_us,
        )
        .number(u32::MAX as u64),
        Row::one(
            PACING,
            "pacing",
            "auto|software|hardware|none",
            "Who keeps to the rate",
            "auto, the hardware where it can",
            |it| &mut it.pacing.mode,
        )
        .choice(),
        Row::optional(
            Key::new("pacing.frame_rate"),
            "frame_rate",
            "HZ",
            "Heaps a second, for each destination, such as 60, 29.97 or 30000/1001: one is sent when it is \
             due",
            "as fast as it goes",
            |it| &mut it.pacing.frame_rate,
        )
        .dashes(),
        Row::one(
            HOLD_BACK,
            "hold_back",
            "BOOL",
            "Wait while receivers' sockets, on this machine, are full, so that UDP loses nothing",
            "false",
            |it| &mut it.pacing.hold_back,
        )
        .switch(),
    ],
};

/// How fast packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingSettings {
    /// The rate to keep to, above 0; `None` is as fast as it goes.
    pub rate: Option<BitRate>,
    /// Which bytes count towards the rate; `None` is all on the wire.
    pub rate_counts: Option<Counted>,
    /// Most that may go at once, at least 1 byte and less than 4 GiB; `None` is what takes a millisecond.
    pub burst: Option<Size>,
    /// How much faster a stream that has fallen behind may go; `None` is 1.05.
    pub burst_rate_ratio: Option<Ratio>,
    /// Pauses between bursts no longer than that are not slept through, nor the end of longer ones.
    pub min_sleep_us: u32,
    /// Who keeps to the rate.
    pub mode: PacingMode,
    /// Heaps a second, for each destination; `None` is as fast as it goes.
    pub frame_rate: Option<FrameRate>,
    /// Whether to wait while the receivers' sockets, on this machine, are full.
    pub hold_back: bool,
}

impl Default for PacingSettings {
    fn default() -> Self {
        Self {
            rate: None,
            rate_counts: None,
            burst: None,
            burst_rate_ratio: None,
            min_sleep_us: MIN_SLEEP.as_micros() as u32,
            mode: PacingMode::Auto,
            frame_rate: None,
            hold_back: false,
        }
    }
}

impl PacingSettings {
    /// The rate as pacers take it.
    pub fn pacer_rate(&self) -> Option<pacer::Rate> {
        let given = self.rate?;
        let burst = u32::try_from(self.burst_of(given).bytes()).unwrap_or(u32::MAX);
        let mut rate = pacer::Rate::new(given.bits_per_second(), burst);
        rate.counts = self.rate_counts.unwrap_or(rate.counts);
        if let Some(ratio) = self.burst_rate_ratio {
            rate.burst_rate_per_mille = ratio.per_mille();
        }
        Some(rate)
    }

    pub(crate) fn min_sleep(&self) -> Duration {
        Duration::from_micros(self.min_sleep_us.into())
    }

    /// What is given, else what takes a millisecond: at low rates, larger bursts would come at long
    /// intervals.
    fn burst_of(&self, rate: BitRate) -> Size {
        self.burst.unwrap_or_else(|| {
            let in_a_millisecond = Size::from_bytes((rate.bits_per_second() / 8000).max(1));
            in_a_millisecond.min(LARGEST_BURST)
        })
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let Some(rate) = self.rate else {
            let of_a_rate = [
                (PACING, matches!(self.mode, PacingMode::Software | PacingMode::Hardware)),
                (RATE_COUNTS, self.rate_counts.is_some()),
                (BURST, self.burst.is_some()),
                (BURST_RATE_RATIO, self.burst_rate_ratio.is_some()),
            ];
            return match of_a_rate.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    let hint = format!("{key} needs one to keep to, such as 10Gb/s");
                    Err(SettingsError::missing(RATE, hint))
                }
                None => Ok(()),
            };
        };
        if rate.bits_per_second() == 0 {
            let hint = "give a rate such as 10Gb/s, or leave it out to go as fast as it goes";
            return Err(SettingsError::unusable(RATE, rate, hint));
        }
        if self.mode == PacingMode::None {
            let hint = "with pacing none nobody keeps to a rate; drop one of the two";
            return Err(SettingsError::conflict(RATE, PACING, hint));
        }
        if self.mode == PacingMode::Hardware && self.rate_counts == Some(Counted::Payload) {
            let hint = "hardware counts what is on the wire; take software, or count that";
            return Err(SettingsError::conflict(RATE_COUNTS, PACING, hint));
        }
        let burst = self.burst_of(rate);
        match burst.bytes() {
            1..MAX_BURST => Ok(()),
            _ => {
                let hint =
                    "give at least 1 byte, which is a packet, and less than 4GiB, such as 64KiB";
                Err(SettingsError::unusable(BURST, burst, hint))
            }
        }
    }
}

/// What spead2 takes, and as much as segmentation offload takes at once.
const LARGEST_BURST: Size = Size::from_bytes(64 << 10);
const MAX_BURST: u64 = 1 << 32;
