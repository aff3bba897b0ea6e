//! Where payload comes from.
//!
//! A [`Source`] cuts whatever it has into heaps of one length and says, in descriptors, what they
//! are. What lies in memory already, as a mapped file does, is attached to heaps and never copied;
//! anything else is written straight into the payload of a batch.

#[doc(hidden)]
pub mod fuzz;

mod error;
mod files;
mod item;
mod mapped;
mod npy;
mod pack;
mod pattern;
mod random;
mod raw_file;
mod reader;

pub use error::SourceError;
pub use files::Files;
pub use item::{Constant, DEFAULT_ITEM, FRAME_NUMBER_ITEM, SourceItem, TIMESTAMP_ITEM};
pub use mapped::{MappedHeaps, Place};
pub(crate) use npy::element_size;
pub use pack::{
    Encoder, Interval, InvalidInterval, Loss, OFFSET_ITEM, PackFormat, Packed, SCALE_ITEM,
    SampleType, UnknownFormat,
};
pub use pattern::Pattern;
pub use random::Random;
pub use reader::Reader;

use std::ops::Range;

use crate::region::PayloadMut;

/// Payload, cut into heaps.
pub trait Source: Send {
    /// The items that the payload of each heap consists of, in order.
    fn items(&self) -> &[SourceItem];

    /// Payload bytes of each heap, all items together.
    fn heap_len(&self) -> usize {
        item::heap_len(self.items())
    }

    /// Items that have one value for the whole stream, to be sent in each heap: whoever joins late, or
    /// loses a heap, is to know them.
    fn constants(&self) -> &[Constant] {
        &[]
    }

    /// How many heaps there are; `None` if there is no end, or none that is known.
    fn heaps(&self) -> Option<u64>;

    /// Where all heaps lie in memory already, if they do: what
    /// [`Region::allocate`](crate::region::Region::allocate) and
    /// [`Batch::attach`](crate::region::Batch::attach) take, so that heaps are attached rather than
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
    /// A source that is read once, such as a pipe, gives out its heaps in turn, whatever the index.
    ///
    /// # Errors
    ///
    /// If the source cannot be read.
    fn fill(&mut self, index: u64, payload: PayloadMut<'_>) -> Result<Filled, SourceError>;

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
}

/// Knows what the heaps of a source contain.
pub trait Verifier: Send {
    /// Whether `payload` is, byte by byte, heap `index` of the source.
    fn matches(&self, index: u64, payload: &[u8]) -> bool;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::{HeapSpec, PacketSize, Plan};
    use crate::region::{Batch, Layout, Region};
    use crate::wire::Flavour;

    /// A batch of one heap of `len` payload bytes, in packets of at most `packet_size`.
    pub(crate) fn batch(len: usize, packet_size: usize) -> Batch {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(packet_size))
            .heaps(&HeapSpec::new().payload(DEFAULT_ITEM, len), 1)
            .build()
            .unwrap();
        let region = Region::allocate(&Arc::new(plan), Layout::Packed, 1, 0, Vec::new());
        region.unwrap().1.pop().unwrap()
    }

    /// What a source makes of a heap, packet by packet, and what it says of having done so.
    pub(crate) fn filled(
        source: &mut dyn Source,
        index: u64,
        packet_size: usize,
    ) -> (Filled, Vec<u8>) {
        let mut batch = batch(source.heap_len(), packet_size);
        let filled = source.fill(index, batch.payload(0)).unwrap();
        (filled, batch.payload(0).chunks().flat_map(|chunk| chunk.to_vec()).collect())
    }
}
