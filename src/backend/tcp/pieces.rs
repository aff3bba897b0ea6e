//! The pieces of memory that packets consist of where header and payload lie apart.

use std::io::IoSlice;
use std::ops::Range;

use crate::backend::socket::MAX_PER_CALL;
use crate::region::InFlight;

/// Pieces for one call.
pub(super) struct Pieces<'a> {
    slices: [IoSlice<'a>; MAX_PER_CALL],
    len: usize,
}

impl<'a> Pieces<'a> {
    /// Two a packet, the first of which lacks `begun` bytes in front; as many as there is room for.
    pub(super) fn of(batch: &'a InFlight, packets: Range<u32>, begun: usize) -> Self {
        let mut pieces = Self { slices: [IoSlice::new(&[]); MAX_PER_CALL], len: 0 };
        let mut begun = begun;
        for packet in packets.take(MAX_PER_CALL / 2) {
            let bytes = batch.packet(packet);
            for piece in [bytes.head, bytes.tail] {
                let rest = &piece[begun.min(piece.len())..];
                begun -= piece.len() - rest.len();
                pieces.slices[pieces.len] = IoSlice::new(rest);
                pieces.len += 1;
            }
        }
        pieces
    }

    pub(super) fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.len]
    }
}
