//! The pieces of memory that packets consist of where header and payload lie apart.

use std::ops::Range;

use crate::backend::socket::MAX_PER_CALL;
use crate::region::{InFlight, MappedBytes};

/// Pieces for one call.
pub(super) struct Pieces<'a> {
    pieces: [MappedBytes<'a>; MAX_PER_CALL],
    len: usize,
}

impl<'a> Pieces<'a> {
    /// Two a packet, the first of which lacks `begun` bytes in front; as many as there is room for.
    pub(super) fn of(batch: &'a InFlight, packets: Range<u32>, begun: usize) -> Self {
        let mut pieces = Self { pieces: [MappedBytes::EMPTY; MAX_PER_CALL], len: 0 };
        let mut begun = begun;
        for packet in packets.take(MAX_PER_CALL / 2) {
            let bytes = batch.packet(packet);
            for piece in [MappedBytes::of(bytes.head), bytes.tail] {
                let sent = begun.min(piece.len());
                begun -= sent;
                pieces.pieces[pieces.len] =
                    piece.get(sent..piece.len()).expect("no more is sent than there is");
                pieces.len += 1;
            }
        }
        pieces
    }

    pub(super) fn as_slice(&self) -> &[MappedBytes<'a>] {
        &self.pieces[..self.len]
    }
}
