//! Protocols as bytes: one protocol a file, each with views that parse and headers that emit.
//!
//! Pure code: no sockets, no files, no clock, no allocation but where a descriptor is built.

mod descriptor;
mod spead;

pub use descriptor::{Descriptor, DescriptorError, Field, NumpyHeader};
pub(crate) use spead::HEAP_CNT_OFFSET;
pub use spead::{
    Flavour, FlavourError, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, MIN_PACKET_SIZE, Packet,
    PacketHeader, ParseError, StreamControl, item,
};
