//! How many heaps go together.

use super::keys::{BATCH_HEAPS, IN_FLIGHT};
use super::resolve::at_least_1;
use super::{BatchOptions, ConfigError, LayoutKind, SendersConfig, StreamConfig};

/// How many heaps go together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchConfig {
    /// Heaps per batch, at least 1; a multiple of the number of destinations unless one batch holds
    /// the whole stream. `None` while the size of a heap is unknown ([`HeapContent::Npy`](super::HeapContent::Npy), packing): then
    /// [`BatchConfig::heaps_of`] tells once the file is open.
    pub heaps: Option<u32>,
    /// Batches in flight at once, at least 1.
    pub in_flight: u32,
    /// How packets lie in memory.
    pub layout: LayoutKind,
}

impl BatchConfig {
    /// Heaps per batch for heaps of `heap_bytes`, over `destinations`: the configured number, else
    /// about 512 KiB of them; never more than the `total` of the stream, if that is known.
    pub fn heaps_of(&self, heap_bytes: u64, destinations: u64, total: Option<u64>) -> u32 {
        let heaps = self.heaps.map_or_else(
            || (BATCH_BYTES / heap_bytes.max(1)).max(1).next_multiple_of(destinations.max(1)),
            u64::from,
        );
        let heaps = heaps.min(total.unwrap_or(u64::MAX)).max(1);
        u32::try_from(heaps).unwrap_or(u32::MAX)
    }
}

pub(super) fn batch(
    options: &BatchOptions,
    stream: &StreamConfig,
    senders: &SendersConfig,
    count: Option<u64>,
    heap_bytes: Option<u64>,
) -> Result<BatchConfig, ConfigError> {
    let destinations = stream.to.iter().map(|endpoint| u64::from(endpoint.count())).sum();
    let destinations = senders.destinations(destinations).max(1);
    let count = count.map(|count| senders.own_heaps(count));
    let in_flight = options.in_flight.unwrap_or(IN_FLIGHT_DEFAULT);
    at_least_1(IN_FLIGHT, in_flight.into())?;
    if let Some(heaps) = options.heaps.map(u64::from) {
        at_least_1(BATCH_HEAPS, heaps)?;
        let whole_stream = count.is_some_and(|count| count <= heaps);
        if !heaps.is_multiple_of(destinations) && !whole_stream {
            let near = heaps.next_multiple_of(destinations);
            let hint = format!(
                "heaps go to {destinations} destinations in turn; give a multiple, such as {near}"
            );
            return Err(ConfigError::unusable(BATCH_HEAPS, heaps, hint));
        }
    }
    let layout = options.layout.unwrap_or_default();
    let batch = BatchConfig { heaps: options.heaps, in_flight, layout };
    let heaps = match heap_bytes {
        Some(bytes) => Some(batch.heaps_of(bytes, destinations, count)),
        None => batch.heaps,
    };
    Ok(BatchConfig { heaps, ..batch })
}

/// Half a mebibyte a batch: with two in flight, about 1 MiB together.
const BATCH_BYTES: u64 = 512 << 10;
const IN_FLIGHT_DEFAULT: u32 = 2;
