//! Identifiers that SPEAD reserves.

/// Nothing, or where the item before ends.
pub const NULL: u64 = 0x00;
/// Number of the heap.
pub const HEAP_CNT: u64 = 0x01;
/// Payload bytes of the heap.
pub const HEAP_LENGTH: u64 = 0x02;
/// Where in the heap's payload a packet's starts.
pub const PAYLOAD_OFFSET: u64 = 0x03;
/// Payload bytes of the packet.
pub const PAYLOAD_LENGTH: u64 = 0x04;
/// A descriptor: a whole packet that describes an item.
pub const DESCRIPTOR: u64 = 0x05;
/// Stream control.
pub const STREAM_CTRL: u64 = 0x06;
/// Name of the item described.
pub const DESCRIPTOR_NAME: u64 = 0x10;
/// Its description, for people.
pub const DESCRIPTOR_DESCRIPTION: u64 = 0x11;
/// Its dimensions.
pub const DESCRIPTOR_SHAPE: u64 = 0x12;
/// The fields of an element.
pub const DESCRIPTOR_FORMAT: u64 = 0x13;
/// Its identifier.
pub const DESCRIPTOR_ID: u64 = 0x14;
/// A numpy header, which says format and shape at once.
pub const DESCRIPTOR_DTYPE: u64 = 0x15;
