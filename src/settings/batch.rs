//! How many heaps go together.

use super::keys::{BATCH_HEAPS, IN_FLIGHT};
use super::stream::at_least_1;
use super::{Key, LayoutKind, Row, Section, Settings, SettingsError};

pub(super) const SECTION: Section<Settings> = Section {
    name: "batch",
    title: "Batches",
    settings: &[
        Row::optional(
            BATCH_HEAPS,
            "batch_heaps",
            "N",
            "Heaps per batch, sent with one doorbell",
            "about 512KiB of them",
            |it| &mut it.batch.heaps,
        )
        .number(u32::MAX as u64),
        Row::one(
            IN_FLIGHT,
            "in_flight",
            "N",
            "Batches in flight at once, while one more is filled",
            "2",
            |it| &mut it.batch.in_flight,
        )
        .number(u32::MAX as u64),
        Row::one(
            Key::new("batch.layout"),
            "layout",
            "auto|packed|split",
            "Header and payload adjacent in memory, or apart",
            "auto, packed but for files, which are sent from where they lie",
            |it| &mut it.batch.layout,
        )
        .choice(),
    ],
};

/// How many heaps go together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchSettings {
    /// Heaps per batch, at least 1; a multiple of the number of destinations unless one batch holds
    /// the whole stream. `None` is about 512 KiB of them, or what is due at once where there is a frame
    /// rate.
    pub heaps: Option<u32>,
    /// Batches in flight at once, at least 1, while one more is filled.
    pub in_flight: u32,
    /// How packets lie in memory.
    pub layout: LayoutKind,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { heaps: None, in_flight: 2, layout: LayoutKind::Auto }
    }
}

impl BatchSettings {
    pub(super) fn check(&self, settings: &Settings) -> Result<(), SettingsError> {
        at_least_1(IN_FLIGHT, self.in_flight.into())?;
        let Some(heaps) = self.heaps.map(u64::from) else { return Ok(()) };
        at_least_1(BATCH_HEAPS, heaps)?;
        let count = settings.heap.count.map(|count| settings.senders.own_heaps(count));
        let destinations = settings.own_destinations();
        let whole_stream = count.is_some_and(|count| count <= heaps);
        if !heaps.is_multiple_of(destinations) && !whole_stream {
            let near = heaps.next_multiple_of(destinations);
            let hint = format!(
                "heaps go to {destinations} destinations in turn; give a multiple, such as {near}"
            );
            return Err(SettingsError::unusable(BATCH_HEAPS, heaps, hint));
        }
        Ok(())
    }
}

impl Settings {
    /// Heaps per batch, for heaps of `heap_bytes`: what is set, else as much as is due at once where there is
    /// a frame rate, else about 512 KiB of them; never more than this sender sends.
    pub fn batch_heaps(&self, heap_bytes: u64) -> u32 {
        let destinations = self.own_destinations();
        let heaps = match self.batch.heaps {
            Some(heaps) => heaps.into(),
            // What is in a batch goes at once.
            None if self.pacing.frame_rate.is_some() => destinations,
            None => (BATCH_BYTES / heap_bytes.max(1)).max(1).next_multiple_of(destinations),
        };
        let own = self.heap.count.map_or(u64::MAX, |count| self.senders.own_heaps(count));
        u32::try_from(heaps.min(own).max(1)).unwrap_or(u32::MAX)
    }
}

/// Half a mebibyte a batch: with two in flight, about 1 MiB together.
const BATCH_BYTES: u64 = 512 << 10;
