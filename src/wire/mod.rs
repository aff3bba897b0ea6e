//! Protocols as bytes: one protocol a file, each with views that parse and headers that emit.
//!
//! Pure code: no sockets, no files, no clock, no allocation but where a descriptor is built. SPEAD
//! itself is re-exported here; the protocols below it have a module each.

pub mod checksum;
mod descriptor;
pub mod ethernet;
pub mod frame;
pub mod ipv4;
pub mod ipv6;
pub mod item;
mod literal;
mod spead;
pub mod udp;

pub use descriptor::{Descriptor, DescriptorError, Field, NumpyHeader};
pub(crate) use literal::Literal;
pub(crate) use spead::HEAP_CNT_OFFSET;
pub use spead::{
    Flavour, FlavourError, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, MIN_PACKET_SIZE, Packet,
    PacketHead, PacketHeader, ParseError, StreamControl,
};
