//! SPEAD: flavours, item pointers and packets.
//!
//! Source: *SPEAD: Streaming Protocol for Exchange of Astronomical Data*, SKA Africa, 2010/10/07, in
//! the dialect that spead2 sends.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::item;

/// How the 64 bits of an item pointer are shared between item identifier and address.
///
/// SPEAD-64-40 has 40 bits of address and 23 of identifier; the top bit marks an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flavour {
    address_bits: u8,
}

impl Flavour {
    /// SPEAD-64-40, what spead2 sends unless told otherwise.
    pub const SPEAD_64_40: Self = Self { address_bits: 40 };
    /// SPEAD-64-48, common among correlators of the MeerKAT line.
    pub const SPEAD_64_48: Self = Self { address_bits: 48 };

    /// The flavour SPEAD-64-`address_bits`; `None` unless that is a multiple of 8 from 8 to 56.
    pub const fn new(address_bits: u8) -> Option<Self> {
        if address_bits >= 8 && address_bits <= 56 && address_bits.is_multiple_of(8) {
            Some(Self { address_bits })
        } else {
            None
        }
    }

    /// Bits of an address, and of an immediate value.
    pub const fn address_bits(self) -> u8 {
        self.address_bits
    }

    /// Bytes of an address, and of an immediate value.
    pub const fn address_bytes(self) -> usize {
        self.address_bits as usize / 8
    }

    /// The largest address, immediate value and heap cnt.
    pub const fn max_value(self) -> u64 {
        (1 << self.address_bits) - 1
    }

    /// The largest item identifier.
    pub const fn max_id(self) -> u64 {
        (1 << (63 - self.address_bits)) - 1
    }
}

impl Default for Flavour {
    fn default() -> Self {
        Self::SPEAD_64_40
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "64-{}", self.address_bits)
    }
}

/// A text that names no flavour.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a SPEAD flavour: expected 64-N with N a multiple of 8 from 8 to 56, such as 64-40 or 64-48"
)]
pub struct FlavourError(pub String);

impl FromStr for Flavour {
    type Err = FlavourError;

    fn from_str(text: &str) -> Result<Self, FlavourError> {
        text.strip_prefix("64-")
            .and_then(|bits| bits.parse().ok())
            .and_then(Self::new)
            .ok_or_else(|| FlavourError(text.into()))
    }
}

/// The eight bytes that name an item and say where it is, or, if immediate, what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemPointer(u64);

impl ItemPointer {
    /// Fills a header up without meaning anything: receivers skip identifier 0.
    ///
    /// An *addressed* NULL item, in contrast, marks where the item before it ends.
    pub const PADDING: Self = Self(IMMEDIATE);

    /// A pointer whose value is the item. Bits of `value` beyond the flavour's are dropped.
    pub const fn immediate(flavour: Flavour, id: u64, value: u64) -> Self {
        Self(IMMEDIATE | Self::addressed(flavour, id, value).0)
    }

    /// A pointer to the item at `address`, in bytes from the start of the heap's payload.
    pub const fn addressed(flavour: Flavour, id: u64, address: u64) -> Self {
        Self((id & flavour.max_id()) << flavour.address_bits | address & flavour.max_value())
    }

    /// The pointer as it lies in a packet.
    pub const fn from_be_bytes(bytes: [u8; ITEM_POINTER_LEN]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// The pointer as it goes into a packet.
    pub const fn to_be_bytes(self) -> [u8; ITEM_POINTER_LEN] {
        self.0.to_be_bytes()
    }

    /// Whether the value is the item itself.
    pub const fn is_immediate(self) -> bool {
        self.0 & IMMEDIATE != 0
    }

    /// The item's identifier.
    pub const fn id(self, flavour: Flavour) -> u64 {
        self.0 >> flavour.address_bits & flavour.max_id()
    }

    /// The item's value if it is immediate, its address otherwise.
    pub const fn value(self, flavour: Flavour) -> u64 {
        self.0 & flavour.max_value()
    }
}

/// What a stream control item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum StreamControl {
    /// The stream starts.
    Start = 0,
    /// Descriptors are sent once more.
    Reissue = 1,
    /// The stream ends; travels in a heap of its own.
    Stop = 2,
    /// Descriptors have changed.
    Update = 3,
}

/// What the first [`HEADER_LEN`] bytes of every packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketHeader {
    /// How item pointers are divided.
    pub flavour: Flavour,
    /// Item pointers after the four that this header stands for.
    pub item_pointers: u16,
    /// The heap that the packet is part of.
    pub heap_cnt: u64,
    /// Payload bytes of the whole heap.
    pub heap_length: u64,
    /// Where in the heap's payload that of this packet starts.
    pub payload_offset: u64,
    /// Payload bytes in this packet.
    pub payload_length: u64,
}

impl PacketHeader {
    /// Writes the header to the start of `packet`.
    ///
    /// # Panics
    ///
    /// If `packet` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, packet: &mut [u8]) {
        let address_bytes = self.flavour.address_bytes() as u8;
        packet[..ITEM_POINTER_LEN].copy_from_slice(&[
            MAGIC,
            VERSION,
            ITEM_POINTER_LEN as u8 - address_bytes,
            address_bytes,
            0,
            0,
            0,
            0,
        ]);
        let count = self.item_pointers + HEADER_POINTERS as u16;
        packet[ITEM_COUNT_OFFSET..HEAP_CNT_OFFSET].copy_from_slice(&count.to_be_bytes());
        for (offset, id, value) in [
            (HEAP_CNT_OFFSET, item::HEAP_CNT, self.heap_cnt),
            (HEAP_LENGTH_OFFSET, item::HEAP_LENGTH, self.heap_length),
            (PAYLOAD_OFFSET_OFFSET, item::PAYLOAD_OFFSET, self.payload_offset),
            (PAYLOAD_LENGTH_OFFSET, item::PAYLOAD_LENGTH, self.payload_length),
        ] {
            let pointer = ItemPointer::immediate(self.flavour, id, value);
            packet[offset..offset + ITEM_POINTER_LEN].copy_from_slice(&pointer.to_be_bytes());
        }
    }
}

/// A packet taken apart: nothing in it points outside of it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    head: PacketHead<'a>,
    payload: &'a [u8],
}

/// What stands before the payload of a packet, which may be elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct PacketHead<'a> {
    header: PacketHeader,
    has_heap_length: bool,
    pointers: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a packet apart.
    ///
    /// The four items of the header may stand anywhere among the item pointers, as SPEAD allows; the
    /// heap's length may be missing: see [`PacketHead::heap_length`].
    ///
    /// # Errors
    ///
    /// If this is not SPEAD version 4 with 64-bit item pointers, if its lengths contradict each other
    /// or that of `bytes`, or if heap cnt, payload offset or payload length is missing.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (head, rest) = PacketHead::parse(bytes)?;
        let payload = usize::try_from(head.header.payload_length)
            .ok()
            .and_then(|len| rest.get(..len))
            .ok_or(PacketError::Short { len: bytes.len() })?;
        Ok(Self { head, payload })
    }

    /// What stands before the payload.
    pub fn head(&self) -> &PacketHead<'a> {
        &self.head
    }

    /// What the packet says of itself.
    pub fn header(&self) -> &PacketHeader {
        &self.head.header
    }

    /// Item pointers in order, those of the header and padding left out.
    pub fn item_pointers(&self) -> impl Iterator<Item = ItemPointer> + use<'a> {
        self.head.item_pointers()
    }

    /// The packet's part of the heap's payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl<'a> PacketHead<'a> {
    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "a head always has some")]
    pub fn len(&self) -> usize {
        ITEM_POINTER_LEN + self.pointers.len()
    }

    /// Takes the head of a packet apart, and returns it with the bytes that follow. Whether they are
    /// as many as the payload length says is for the caller to find out.
    ///
    /// # Errors
    ///
    /// Those of [`Packet::parse`], but for what concerns the payload's bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), PacketError> {
        let start = bytes.get(..ITEM_POINTER_LEN).ok_or(PacketError::Short { len: bytes.len() })?;
        if start[..2] != [MAGIC, VERSION] {
            return Err(PacketError::NotSpead { magic: start[0], version: start[1] });
        }
        let flavour = start[3]
            .checked_mul(8)
            .and_then(Flavour::new)
            .filter(|_| start[2] as usize + start[3] as usize == ITEM_POINTER_LEN)
            .ok_or(PacketError::Widths { id: start[2], address: start[3] })?;
        let count = usize::from(u16::from_be_bytes([start[6], start[7]]));
        let (pointers, rest) = bytes[ITEM_POINTER_LEN..]
            .split_at_checked(count * ITEM_POINTER_LEN)
            .ok_or(PacketError::Short { len: bytes.len() })?;

        let mut heap_cnt = None;
        let mut heap_length = None;
        let mut payload_offset = None;
        let mut payload_length = None;
        for pointer in iterate(pointers).filter(|pointer| pointer.is_immediate()) {
            let value = Some(pointer.value(flavour));
            match pointer.id(flavour) {
                item::HEAP_CNT => heap_cnt = value,
                item::HEAP_LENGTH => heap_length = value,
                item::PAYLOAD_OFFSET => payload_offset = value,
                item::PAYLOAD_LENGTH => payload_length = value,
                _ => {}
            }
        }
        let header = PacketHeader {
            flavour,
            item_pointers: count.saturating_sub(HEADER_POINTERS) as u16,
            heap_cnt: heap_cnt.ok_or(PacketError::Missing("heap cnt"))?,
            heap_length: heap_length.unwrap_or(0),
            payload_offset: payload_offset.ok_or(PacketError::Missing("payload offset"))?,
            payload_length: payload_length.ok_or(PacketError::Missing("payload length"))?,
        };
        // No sum overflows: each value has 56 bits at most.
        let end = header.payload_offset + header.payload_length;
        if heap_length.is_some() && end > header.heap_length {
            return Err(PacketError::Beyond { end, heap_length: header.heap_length });
        }
        Ok((Self { header, has_heap_length: heap_length.is_some(), pointers }, rest))
    }

    /// What the packet says of itself; a heap length that it does not say is 0 there.
    pub fn header(&self) -> &PacketHeader {
        &self.header
    }

    /// Payload bytes of the whole heap, if the packet says so.
    pub fn heap_length(&self) -> Option<u64> {
        self.has_heap_length.then_some(self.header.heap_length)
    }

    /// Item pointers in order, those of the header and padding left out.
    pub fn item_pointers(&self) -> impl Iterator<Item = ItemPointer> + use<'a> {
        let flavour = self.header.flavour;
        iterate(self.pointers).filter(move |&pointer| {
            pointer != ItemPointer::PADDING
                && !matches!(pointer.id(flavour), item::HEAP_CNT..=item::PAYLOAD_LENGTH)
        })
    }
}

fn iterate(pointers: &[u8]) -> impl Iterator<Item = ItemPointer> + use<'_> {
    let (pointers, _) = pointers.as_chunks::<ITEM_POINTER_LEN>();
    pointers.iter().map(|&bytes| ItemPointer::from_be_bytes(bytes))
}

/// Why bytes are not a SPEAD packet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The packet ends before what its header announces.
    #[error("the packet ends after {len} bytes, before what its header announces")]
    Short {
        /// Bytes there are.
        len: usize,
    },
    /// The first two bytes are not those of SPEAD version 4.
    #[error("magic {magic:#04x} and version {version} are not those of SPEAD, 0x53 and 4")]
    NotSpead {
        /// The first byte.
        magic: u8,
        /// The second byte.
        version: u8,
    },
    /// Identifier and address do not make up 64-bit item pointers.
    #[error(
        "identifiers of {id} and addresses of {address} bytes do not make 64-bit item pointers"
    )]
    Widths {
        /// Bytes of an identifier.
        id: u8,
        /// Bytes of an address.
        address: u8,
    },
    /// An item that every packet must have is missing.
    #[error("the packet has no {0}")]
    Missing(&'static str),
    /// The payload ends after the heap does.
    #[error("the payload ends at {end}, after the heap, which has {heap_length} bytes")]
    Beyond {
        /// Where the payload ends.
        end: u64,
        /// Where the heap ends.
        heap_length: u64,
    },
}

/// Bytes of an item pointer.
pub const ITEM_POINTER_LEN: usize = 8;
/// Bytes before a packet's first item pointer: magic and the four pointers that all packets have.
pub const HEADER_LEN: usize = ITEM_POINTER_LEN * (1 + HEADER_POINTERS);
/// The smallest packet size: a header, one item pointer and eight bytes of payload.
pub const MIN_PACKET_SIZE: usize = HEADER_LEN + 2 * ITEM_POINTER_LEN;
/// Where the pointer with the heap cnt is: what is stamped at each send.
pub(crate) const HEAP_CNT_OFFSET: usize = 8;
const ITEM_COUNT_OFFSET: usize = 6;
const HEAP_LENGTH_OFFSET: usize = 16;
const PAYLOAD_OFFSET_OFFSET: usize = 24;
const PAYLOAD_LENGTH_OFFSET: usize = 32;
const HEADER_POINTERS: usize = 4;
const MAGIC: u8 = 0x53;
const VERSION: u8 = 4;
const IMMEDIATE: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flavours() -> impl Strategy<Value = Flavour> {
        (1_u8..=7).prop_map(|bytes| Flavour::new(bytes * 8).unwrap())
    }

    #[test]
    fn flavours_are_multiples_of_eight() {
        assert_eq!("64-40".parse(), Ok(Flavour::SPEAD_64_40));
        assert_eq!(Flavour::SPEAD_64_48.to_string(), "64-48");
        for wrong in ["64-44", "64-64", "64-0", "32-8", "40", ""] {
            assert_eq!(wrong.parse::<Flavour>(), Err(FlavourError(wrong.into())));
        }
    }

    /// Bytes that `spead2.send.PacketGenerator` of spead2 4.5.1 makes of a heap with one inline
    /// item 0x1600 of value 77, cnt 5, and its padding.
    #[test]
    fn header_is_that_of_spead2() {
        let expected = [
            0x53, 4, 3, 5, 0, 0, 0, 6, // two item pointers after the header's four
            0x80, 0, 1, 0, 0, 0, 0, 5, 0x80, 0, 2, 0, 0, 0, 0, 1, // cnt 5, one byte
            0x80, 0, 3, 0, 0, 0, 0, 0, 0x80, 0, 4, 0, 0, 0, 0, 1, // at 0, one byte
            0x80, 0x16, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let packet = Packet::parse(&expected).unwrap();
        let mut emitted = [0; HEADER_LEN];
        packet.header().emit(&mut emitted);
        assert_eq!(emitted, expected[..HEADER_LEN]);
        let flavour = Flavour::SPEAD_64_40;
        assert!(packet.item_pointers().eq([
            ItemPointer::immediate(flavour, 0x1600, 77),
            ItemPointer::addressed(flavour, item::NULL, 0),
        ]));
        assert_eq!(packet.payload(), [0]);
    }

    #[test]
    fn a_packet_that_contradicts_itself_is_refused() {
        let header = PacketHeader {
            flavour: Flavour::SPEAD_64_48,
            item_pointers: 0,
            heap_cnt: 1,
            heap_length: 8,
            payload_offset: 4,
            payload_length: 4,
        };
        let packet = |header: PacketHeader| {
            let mut bytes = [0; HEADER_LEN + 4];
            header.emit(&mut bytes);
            bytes
        };
        assert!(Packet::parse(&packet(header)).is_ok());
        assert_eq!(
            Packet::parse(&packet(PacketHeader { heap_length: 7, ..header })).err(),
            Some(PacketError::Beyond { end: 8, heap_length: 7 })
        );
        assert_eq!(
            Packet::parse(&packet(PacketHeader { payload_offset: 0, payload_length: 5, ..header }))
                .err(),
            Some(PacketError::Short { len: HEADER_LEN + 4 })
        );
        assert_eq!(
            Packet::parse(&packet(PacketHeader { item_pointers: 1, ..header })).err(),
            Some(PacketError::Short { len: HEADER_LEN + 4 })
        );
    }

    proptest! {
        #[test]
        fn a_pointer_says_what_it_was_given(
            flavour in flavours(), id: u64, value: u64, immediate: bool,
        ) {
            let (id, value) = (id & flavour.max_id(), value & flavour.max_value());
            let make = if immediate { ItemPointer::immediate } else { ItemPointer::addressed };
            let pointer = ItemPointer::from_be_bytes(make(flavour, id, value).to_be_bytes());
            prop_assert_eq!(pointer.is_immediate(), immediate);
            prop_assert_eq!(pointer.id(flavour), id);
            prop_assert_eq!(pointer.value(flavour), value);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes: Vec<u8>, spead: bool) {
            if spead && bytes.len() >= 8 {
                bytes[..7].copy_from_slice(&[MAGIC, VERSION, 3, 5, 0, 0, 0]);
            }
            let _ = Packet::parse(&bytes);
        }
    }
}
