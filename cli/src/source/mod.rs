//! Where payload comes from.
//!
//! A [`Source`] cuts whatever it has into heaps of one length and says, in descriptors, what they
//! are. What lies in memory already, as a mapped file does, is attached to heaps and never copied;
//! anything else is written straight into the payload of a batch.

mod error;
mod files;
mod item;
mod mapped;
mod npy;
mod packed;
mod packed_reader;
mod pattern;
mod random;
mod raw_file;
mod reader;

pub use doorbell::receive::TIMESTAMP_ITEM;
pub use error::SourceError;
pub use files::Files;
pub use item::{Constant, DEFAULT_ITEM, FRAME_NUMBER_ITEM, SourceItem};
pub use mapped::{MappedHeaps, Position};
pub use npy::{Cut, arbitrary_npy};
pub use packed::{OFFSET_ITEM, Packed, SCALE_ITEM};
pub use packed_reader::PackedReader;
pub use pattern::Pattern;
pub use random::Random;
pub use reader::{Live, Reader};

use std::ops::Range;

use doorbell::pack::Loss;
pub use doorbell::receive::Verifier;
use doorbell::region::PayloadMut;

/// Payload, cut into heaps.
pub trait Source: Send {
    /// The items that the payload of each heap consists of, in order.
    fn items(&self) -> &[SourceItem];

    /// Payload bytes of each heap, all items together.
    fn heap_len(&self) -> usize {
        item::heap_len(self.items())
    }

    /// Bytes that it takes for a heap: other than [`Source::heap_len`] where they are converted as they come.
    fn taken_len(&self) -> usize {
        self.heap_len()
    }

    /// Items that have one value for the whole stream, to be sent in each heap: whoever joins late, or
    /// loses a heap, is to know them.
    fn constants(&self) -> &[Constant] {
        &[]
    }

    /// How many heaps there are; `None` if there is no end, or none that is known.
    fn heaps(&self) -> Option<u64>;

    /// Where all heaps lie in memory already, if they do: what
    /// [`Region::allocate`](doorbell::region::Region::allocate) and
    /// [`Batch::attach`](doorbell::region::Batch::attach) take, so that heaps are attached rather than
    /// filled in.
    fn mapped(&self) -> Option<&MappedHeaps> {
        None
    }

    /// Whether what these heaps were made of is still there, once they were filled in or attached.
    ///
    /// # Errors
    ///
    /// If a file has shrunk, so that some of them are not what they should be.
    fn check(&self, heaps: Range<u64>) -> Result<(), SourceError> {
        self.mapped().map_or(Ok(()), |mapped| mapped.check(heaps))
    }

    /// Writes heap `index` to `payload`, which holds [`Source::heap_len`] bytes.
    ///
    /// A source that is read once, such as a pipe, gives out its heaps in turn, whatever the index. Unless
    /// it `may_wait`, it stops where it would have to: see [`Filled::Stalled`].
    ///
    /// # Errors
    ///
    /// If the source cannot be read.
    fn fill(
        &mut self,
        index: u64,
        payload: PayloadMut<'_>,
        may_wait: bool,
    ) -> Result<Filled, SourceError>;

    /// Takes back the next of the bytes that a fill had written when it stalled; the next fill begins with
    /// them.
    fn put_back(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "a source that never stalls is given something back");
    }

    /// Samples, of all heaps filled in so far, that were to be converted and did not keep their
    /// values; `None` where nothing is converted.
    fn loss(&self) -> Option<Loss> {
        None
    }

    /// What tells whether a heap that was received is the one that was sent; `None` where that
    /// cannot be known afterwards.
    fn verifier(&self) -> Option<Box<dyn Verifier>>;
}

/// How much of a heap was filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// All of it.
    Whole,
    /// Nothing: the source ended before this heap.
    End,
    /// This many bytes: the source ended in the middle of this heap, which is not to be sent.
    Partial(usize),
    /// This many bytes, which are to be put back: for more, the source would have to be waited for.
    Stalled(usize),
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use doorbell::plan::{HeapSpec, PacketSize, Plan};
    use doorbell::region::{Batch, Layout, Placement, Region};
    use doorbell::wire::Flavour;

    /// A batch of one heap of `len` payload bytes, in packets of at most `packet_size`.
    pub(crate) fn batch(len: usize, packet_size: usize) -> Batch {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(packet_size))
            .heaps(&HeapSpec::new().payload(DEFAULT_ITEM, len), 1)
            .build()
            .unwrap();
        let region =
            Region::allocate(&Arc::new(plan), Layout::Packed, 1, Placement::ADJACENT, Vec::new());
        region.unwrap().1.pop().unwrap()
    }

    /// What a source makes of a heap, packet by packet, and what it says of having done so.
    pub(crate) fn filled(
        source: &mut dyn Source,
        index: u64,
        packet_size: usize,
    ) -> (Filled, Vec<u8>) {
        let mut batch = batch(source.heap_len(), packet_size);
        let filled = source.fill(index, batch.payload(0), true).unwrap();
        (filled, batch.payload(0).chunks().flat_map(|chunk| chunk.to_vec()).collect())
    }
}
