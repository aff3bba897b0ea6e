//! What a receiver expects of a stream.

use std::time::Duration;

use crate::wire::Flavour;

/// Knows what the heaps of a stream contain.
pub trait Verifier: Send {
    /// Whether `payload` is, byte by byte, heap `index` of the stream.
    fn matches(&self, index: u64, payload: &[u8]) -> bool;
}

impl<F: Fn(u64, &[u8]) -> bool + Send> Verifier for F {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        self(index, payload)
    }
}

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
    /// One flow of heaps that consist of these items, given as identifiers and bytes: with timestamps, cnts
    /// from 1 on, until the stop heap, compared with nothing.
    pub fn new(flavour: Flavour, items: Vec<(u64, usize)>) -> Self {
        let heap_len = items.iter().fold(0_usize, |len, (_, size)| len.saturating_add(*size));
        Self {
            flavour,
            items,
            timestamp: true,
            first_cnt: 1,
            cnt_step: 1,
            heaps: None,
            max_heap_len: heap_len.saturating_add(OTHER_PAYLOAD),
            heaps_in_flight: HEAPS_IN_FLIGHT,
            flows: 1,
            idle: IDLE,
            verifier: None,
        }
    }
}

/// Identifier of the timestamp, as in the tutorial of spead2.
pub const TIMESTAMP_ITEM: u64 = 0x1600;
/// Room for what may come along, such as descriptors.
const OTHER_PAYLOAD: usize = 4096;
const HEAPS_IN_FLIGHT: usize = 256;
const IDLE: Duration = Duration::from_millis(200);
