//! What came, and what did not.

use std::fmt;

use serde::Serialize;

use super::partial::MAX_POINTERS;

/// What came, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Heaps with data that arrived whole, each counted once.
    pub heaps: u64,
    /// Heaps of which some packets arrived, and others did not.
    pub incomplete: u64,
    /// Heaps of which nothing arrived, as far as cnts tell.
    pub missing: u64,
    /// SPEAD packets.
    pub packets: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// Packets that add nothing: duplicates, and latecomers.
    pub ignored: u64,
    /// Packets that no heap takes: see [`Refusal`].
    pub refused: u64,
    /// The cnt of the first heap that such a packet was of, and why it was refused.
    #[serde(skip)]
    pub first_refusal: Option<(u64, Refusal)>,
    /// Datagrams that are no SPEAD packets.
    pub not_spead: u64,
    /// The same for each substream.
    pub substreams: Vec<SubstreamTally>,
}

impl Tally {
    /// Whether all that is known of came whole.
    pub fn is_whole(&self) -> bool {
        self.incomplete == 0 && self.missing == 0 && self.refused == 0
    }

    /// Whether the end of each substream was seen: without it, what was lost there is not known of.
    pub fn has_ended(&self) -> bool {
        self.substreams.iter().all(|substream| substream.stopped)
    }
}

/// What came of a substream, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubstreamTally {
    /// Heaps with data that arrived whole, each counted once.
    pub heaps: u64,
    /// Heaps of which some packets arrived, and others did not.
    pub incomplete: u64,
    /// Heaps of which nothing arrived, as far as cnts tell: from the first heap seen to the stop heap.
    pub missing: u64,
    /// Whether its stop heap arrived.
    pub stopped: bool,
    /// How often another stream began where one was: a sender that started again.
    pub restarts: u32,
    /// The cnt of the first heap seen, descriptors and the like included.
    pub first_cnt: Option<u64>,
}

/// Why a packet is of no heap that is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its heap has more bytes than any may.
    TooLong(u64),
    /// It is the first of its heap, and does not say how long that is.
    NoLength,
    /// It says another length or flavour than its heap, or lies outside of it.
    Contradiction,
    /// Its heap names more items than any may.
    TooManyItems,
    /// There is no memory for its heap.
    NoMemory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "it has {len} bytes, more than a heap may"),
            Self::NoLength => f.write_str("its packets do not say how long it is"),
            Self::Contradiction => f.write_str("its packets contradict each other"),
            Self::TooManyItems => write!(f, "it names more than {MAX_POINTERS} items"),
            Self::NoMemory => f.write_str("there is no memory for it"),
        }
    }
}
