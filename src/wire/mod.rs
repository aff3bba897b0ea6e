//! Protocols as bytes, one noun a file.
//!
//! Pure code: no sockets, no files, no clock, no allocation but where a descriptor is built. SPEAD is
//! parsed and emitted; what carries it, Ethernet, IP and UDP, is emitted only, by backends that hand
//! over whole frames.

mod checksum;
mod descriptor;
mod dtype;
mod ethernet;
mod frame;
mod ip;
mod ipv4;
mod ipv6;
pub mod item;
mod literal;
mod mac_address;
mod printable;
mod spead;
mod udp;
mod vlan;

pub use descriptor::{Descriptor, DescriptorError, Field, NumpyHeader};
pub use dtype::canonical_dtype;
pub(crate) use ethernet::EtherType;
pub use frame::{Endpoints, FrameHeader, MixedFamilies};
pub(crate) use ip::{default_ttl, ip_udp_header_len, max_payload_len};
pub use mac_address::{MacAddress, MacAddressError};
pub use printable::Printable;
pub(crate) use spead::HEAP_CNT_OFFSET;
pub use spead::{
    Flavour, FlavourError, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, MIN_PACKET_SIZE, Packet,
    PacketError, PacketHead, PacketHeader, StreamControl,
};
pub use vlan::{Vlan, VlanError};
