//! Bytes on the wire, one protocol a file: views that take them apart, headers that emit them.
//!
//! Nothing here does I/O, allocates per packet, or knows about time.

pub mod checksum;
pub mod ethernet;
pub mod frame;
pub mod ipv4;
pub mod ipv6;
pub mod udp;
