//! What came, and what did not.

use serde::Serialize;

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
    /// Packets that add nothing: duplicates, latecomers, and those of heaps that are too long or
    /// contradict themselves.
    pub ignored: u64,
    /// Datagrams that are no SPEAD packets.
    pub not_spead: u64,
    /// The same for each substream.
    pub substreams: Vec<SubstreamTally>,
}

/// What came of a substream, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubstreamTally {
    /// Heaps with data that arrived whole, each counted once.
    pub heaps: u64,
    /// Heaps of which some packets arrived, and others did not.
    pub incomplete: u64,
    /// Heaps of which nothing arrived, as far as cnts tell.
    pub missing: u64,
    /// Whether its stop heap arrived.
    pub stopped: bool,
}
