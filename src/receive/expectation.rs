//! What a receiver expects of a stream.

use std::time::Duration;

pub use crate::source::TIMESTAMP_ITEM;
use crate::source::{Source, Verifier};
use crate::wire::Flavour;

/// What a receiver expects of a stream, and how much memory it spends on it.
pub struct Expectation {
    /// How item pointers are divided. Packets of another flavour are ignored.
    pub flavour: Flavour,
    /// Identifiers and sizes, in bytes, of the items of each heap with data, in the order in which
    /// the verifier knows them.
    pub items: Vec<(u64, usize)>,
    /// Whether each heap has an immediate [`TIMESTAMP_ITEM`], which is to be its index times the
    /// bytes of its items.
    pub timestamp: bool,
    /// Cnt of the heap with index 0.
    pub first_cnt: u64,
    /// What the cnt of each heap adds to that of the heap before.
    pub cnt_step: u64,
    /// Number of heaps with data; `None` if only the stream's end tells.
    pub heaps: Option<u64>,
    /// The longest heap, descriptors included, in bytes. Longer ones are ignored.
    pub max_heap_len: usize,
    /// Heaps that are assembled at once, at least 1. The oldest gives way to the next. In round-robin
    /// order, all heaps of a batch are on the way at once.
    pub heaps_in_flight: usize,
    /// How many flows the stream has, each of which ends with a stop heap.
    pub flows: u32,
    /// For how long nothing must arrive, after [`Progress::stop`](super::Progress::stop), for the
    /// receiver to end without stop heaps.
    pub idle: Duration,
    /// What heaps are compared with; `None` to check no more than lengths.
    pub verifier: Option<Box<dyn Verifier>>,
}

impl Expectation {
    /// The stream of a source: one flow, timestamps, cnts from 1 on.
    pub fn new(flavour: Flavour, source: &dyn Source) -> Self {
        let descriptors: usize = source
            .items()
            .iter()
            // One that cannot be encoded is not sent either.
            .filter_map(|item| Some(item.descriptor.encode(flavour).ok()?.len()))
            .sum();
        Self {
            flavour,
            items: source.items().iter().map(|item| (item.descriptor.id, item.size)).collect(),
            timestamp: true,
            first_cnt: 1,
            cnt_step: 1,
            heaps: source.heaps(),
            max_heap_len: source.heap_len().saturating_add(descriptors + OTHER_PAYLOAD),
            heaps_in_flight: HEAPS_IN_FLIGHT,
            flows: 1,
            idle: IDLE,
            verifier: source.verifier(),
        }
    }
}

/// Room for what may come along, such as the descriptor of the timestamp.
const OTHER_PAYLOAD: usize = 4096;
const HEAPS_IN_FLIGHT: usize = 256;
const IDLE: Duration = Duration::from_millis(200);
