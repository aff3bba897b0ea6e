//! Descriptors: what an item is called, what it means, and how its bytes are to be read.

use std::fmt::{self, Write};
use std::str::FromStr;

use thiserror::Error;

use super::dtype::{canonical_descr, tuple};
use super::item;
use super::literal::Literal;
use super::printable::Printable;
use super::spead::{
    Flavour, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, Packet, PacketError, PacketHeader,
};

/// A descriptor, which travels as a complete SPEAD packet inside a heap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Identifier of the item described.
    pub id: u64,
    /// Short name, used as a key by receivers.
    pub name: String,
    /// What the item means, for people.
    pub description: String,
    /// Fields of one element, in order; empty if there is a numpy header.
    pub format: Vec<Field>,
    /// Dimensions; `None` is one that the data's length decides.
    pub shape: Vec<Option<u64>>,
    /// Element type and shape in numpy's words, which override `format` and `shape`.
    pub numpy_header: Option<NumpyHeader>,
}

/// One field of an element: a code and a number of bits, packed without gaps, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// `u` unsigned, `i` signed, `f` float, `b` boolean, `c` character.
    pub code: u8,
    /// Bits of the field: any number, such as 10.
    pub bits: u32,
}

impl Field {
    /// A field of `bits` bits, of which `code` (`u`, `i`, `f`, `b`, `c`) is the kind.
    pub const fn new(code: u8, bits: u32) -> Self {
        Self { code, bits }
    }
}

/// The header of a numpy array, as in a `.npy` file and in item 0x15.
///
/// Source: NEP 1, *A Simple File Format for NumPy Arrays*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumpyHeader {
    /// The element type as a Python literal, quotes included: `'<f4'`, or a list of fields.
    pub descr: String,
    /// Whether the first index varies fastest.
    pub fortran_order: bool,
    /// Dimensions.
    pub shape: Vec<u64>,
}

impl NumpyHeader {
    /// A C-ordered array of a plain element type such as `<f4`.
    pub fn new(dtype: &str, shape: &[u64]) -> Self {
        Self { descr: format!("'{dtype}'"), fortran_order: false, shape: shape.to_vec() }
    }

    /// Bytes of an element.
    ///
    /// # Errors
    ///
    /// What is wrong with the element type, in words: numpy has no such type, or it holds Python objects.
    pub fn element_size(&self) -> Result<usize, String> {
        canonical_descr(&self.descr).map(|(_, size)| size)
    }
}

/// Reads the dictionary, whose keys may come in any order; of those that occur twice, the last counts. The element
/// type comes out as numpy writes it, however it was written: see [`canonical_dtype`](super::canonical_dtype). One
/// that numpy has not stays as it is.
impl FromStr for NumpyHeader {
    type Err = DescriptorError;

    fn from_str(dictionary: &str) -> Result<Self, DescriptorError> {
        let parse = || {
            let literal = Literal::parse(dictionary)?;
            let (_, descr) = literal.value("descr")?;
            let (&Literal::Boolean(fortran_order), _) = literal.value("fortran_order")? else {
                return None;
            };
            let (shape, _) = literal.value("shape")?;
            let descr = canonical_descr(descr).map_or_else(|_| descr.into(), |(descr, _)| descr);
            Some(Self { descr, fortran_order, shape: shape.dimensions()? })
        };
        parse().ok_or_else(|| DescriptorError::NumpyHeader(text(dictionary.as_bytes())))
    }
}

/// Python's `repr` of the dictionary, which is what spead2 sends.
impl fmt::Display for NumpyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.fortran_order { "True" } else { "False" };
        let shape = tuple(&self.shape);
        write!(f, "{{'descr': {}, 'fortran_order': {order}, 'shape': {shape}}}", self.descr)
    }
}

impl Descriptor {
    /// Describes an item by a numpy header, with the shape beside it, as spead2's Python does.
    pub fn numpy(id: u64, name: &str, description: &str, header: NumpyHeader) -> Self {
        Self {
            id,
            name: name.into(),
            description: description.into(),
            format: Vec::new(),
            shape: header.shape.iter().copied().map(Some).collect(),
            numpy_header: Some(header),
        }
    }

    /// The descriptor as bytes of item 0x05.
    ///
    /// # Errors
    ///
    /// If a value does not fit the flavour, or name or description is not ASCII, which is all that
    /// receivers decode.
    pub fn encode(&self, flavour: Flavour) -> Result<Vec<u8>, DescriptorError> {
        if self.id == 0 || self.id > max_id(flavour) {
            return Err(DescriptorError::Id { id: self.id, flavour });
        }
        for text in [&self.name, &self.description] {
            if !text.is_ascii() {
                return Err(DescriptorError::NotAscii { id: self.id, text: text.clone() });
            }
        }
        let mut format = Vec::new();
        for field in &self.format {
            let max_bits = (1_u64 << (8 * (field_len(flavour) - 1)).min(32)) - 1;
            if !b"uifbc".contains(&field.code)
                || field.bits == 0
                || u64::from(field.bits) > max_bits
            {
                return Err(DescriptorError::Format { id: self.id, field: *field });
            }
            format.push(field.code);
            push_be(&mut format, u64::from(field.bits), field_len(flavour) - 1);
        }
        let mut shape = Vec::new();
        for &dimension in &self.shape {
            if dimension > Some(flavour.max_value()) {
                return Err(DescriptorError::Shape { id: self.id, flavour });
            }
            shape.push(u8::from(dimension.is_none()));
            push_be(&mut shape, dimension.unwrap_or(0), dimension_len(flavour) - 1);
        }
        let numpy_header = self.numpy_header.as_ref().map(NumpyHeader::to_string);

        let mut items = vec![
            (item::DESCRIPTOR_NAME, self.name.as_bytes()),
            (item::DESCRIPTOR_DESCRIPTION, self.description.as_bytes()),
            (item::DESCRIPTOR_FORMAT, &format),
            (item::DESCRIPTOR_SHAPE, &shape),
        ];
        items.extend(numpy_header.iter().map(|text| (item::DESCRIPTOR_DTYPE, text.as_bytes())));
        Ok(emit(flavour, self.id, &items))
    }

    /// Reads the bytes of item 0x05.
    ///
    /// # Errors
    ///
    /// If they are not a whole packet, or name no item.
    pub fn decode(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let packet = Packet::parse(bytes)?;
        let flavour = packet.header().flavour;
        let payload = packet.payload();
        let mut ends: Vec<u64> = packet
            .item_pointers()
            .filter(|pointer| !pointer.is_immediate())
            .map(|pointer| pointer.value(flavour))
            .chain([payload.len() as u64])
            .collect();
        ends.sort_unstable();

        let mut descriptor = Self::default();
        let mut pointers = packet.item_pointers().peekable();
        while let Some(pointer) = pointers.next() {
            let value = pointer.value(flavour);
            if pointer.is_immediate() {
                if pointer.id(flavour) == item::DESCRIPTOR_ID {
                    descriptor.id = value;
                }
                continue;
            }
            // Where several items start at one place all but the last are empty.
            let empty =
                pointers.peek().is_some_and(|p| !p.is_immediate() && p.value(flavour) == value);
            let end = match empty {
                true => value,
                false => ends.iter().copied().find(|&end| end > value).unwrap_or(value),
            };
            let content = usize::try_from(value)
                .ok()
                .zip(usize::try_from(end).ok())
                .and_then(|(start, end)| payload.get(start..end))
                .ok_or(DescriptorError::Address { id: pointer.id(flavour), address: value })?;
            match pointer.id(flavour) {
                item::DESCRIPTOR_NAME => descriptor.name = text(content),
                item::DESCRIPTOR_DESCRIPTION => descriptor.description = text(content),
                item::DESCRIPTOR_FORMAT => {
                    has_widths(content, field_len(flavour), pointer.id(flavour), flavour)?;
                    descriptor.format = content
                        .chunks_exact(field_len(flavour))
                        .map(|field| Field::new(field[0], read_be(&field[1..]) as u32))
                        .collect();
                }
                item::DESCRIPTOR_SHAPE => {
                    let len = dimension_len(flavour);
                    has_widths(content, len, pointer.id(flavour), flavour)?;
                    if content.chunks_exact(len).any(|dimension| dimension[0] > 1) {
                        return Err(DescriptorError::Widths { id: pointer.id(flavour), flavour });
                    }
                    descriptor.shape = content
                        .chunks_exact(dimension_len(flavour))
                        .map(|dimension| (dimension[0] & 1 == 0).then(|| read_be(&dimension[1..])))
                        .collect();
                }
                item::DESCRIPTOR_DTYPE => descriptor.numpy_header = Some(parse_numpy(content)?),
                _ => {}
            }
        }
        if descriptor.id == 0 {
            return Err(DescriptorError::NoId);
        }
        Ok(descriptor)
    }
}

fn emit(flavour: Flavour, id: u64, items: &[(u64, &[u8])]) -> Vec<u8> {
    let len: usize = items.iter().map(|(_, content)| content.len()).sum();
    let mut packet = vec![0; HEADER_LEN];
    PacketHeader {
        flavour,
        item_pointers: 1 + items.len() as u16,
        heap_cnt: 1,
        heap_length: len as u64,
        payload_offset: 0,
        payload_length: len as u64,
    }
    .emit(&mut packet);
    let pointer = ItemPointer::immediate(flavour, item::DESCRIPTOR_ID, id);
    packet.extend(pointer.to_be_bytes());
    let mut address = 0;
    for (id, content) in items {
        packet.extend(ItemPointer::addressed(flavour, *id, address).to_be_bytes());
        address += content.len() as u64;
    }
    for (_, content) in items {
        packet.extend_from_slice(content);
    }
    packet
}

/// Whether bytes are made of entries of the flavour's width. PySPEAD 0.5.2 has one width for all flavours;
/// and bytes in the wrong order, too, which nobody can tell from the bytes.
fn has_widths(bytes: &[u8], len: usize, id: u64, flavour: Flavour) -> Result<(), DescriptorError> {
    match bytes.len().is_multiple_of(len) {
        true => Ok(()),
        false => Err(DescriptorError::Widths { id, flavour }),
    }
}

fn parse_numpy(content: &[u8]) -> Result<NumpyHeader, DescriptorError> {
    let not_text = |_| DescriptorError::NumpyHeader(text(content));
    std::str::from_utf8(content).map_err(not_text)?.parse()
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn push_be(out: &mut Vec<u8>, value: u64, len: usize) {
    out.extend_from_slice(&value.to_be_bytes()[ITEM_POINTER_LEN - len..]);
}

fn read_be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// A descriptor names its item by the value of an immediate: there it must fit, too.
fn max_id(flavour: Flavour) -> u64 {
    flavour.max_id().min(flavour.max_value())
}

/// Bytes of a format field: one for the code, the rest as wide as an item identifier.
const fn field_len(flavour: Flavour) -> usize {
    1 + ITEM_POINTER_LEN - flavour.address_bytes()
}

/// Bytes of a dimension: one that says whether it is variable, the rest as wide as an address.
const fn dimension_len(flavour: Flavour) -> usize {
    1 + flavour.address_bytes()
}

/// Why a descriptor cannot be sent or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The identifier does not fit.
    #[error("item identifier {id:#x} is not in 1..={max:#x}, the range of SPEAD-{flavour} descriptors", max = max_id(*flavour))]
    Id {
        /// The identifier.
        id: u64,
        /// The flavour asked for.
        flavour: Flavour,
    },
    /// Name or description has characters that receivers do not decode.
    #[error("item {id:#x}: `{text}` is not ASCII, which SPEAD's names and descriptions are", text = Printable(.text))]
    NotAscii {
        /// The item described.
        id: u64,
        /// The text.
        text: String,
    },
    /// A format field is none that receivers know.
    #[error("item {id:#x}: format ('{code}', {bits}) is not one of u, i, f, b, c with 1 or more bits", code = field.code.escape_ascii(), bits = field.bits)]
    Format {
        /// The item described.
        id: u64,
        /// The field.
        field: Field,
    },
    /// Format or shape is not made of entries as wide as the flavour says.
    #[error(
        "item {id:#x} of a descriptor has no entries of the width that SPEAD-{flavour} has: this is \
         how PySPEAD 0.5.2 writes them, and spead2 with its bug_compat, whose streams are not read; \
         send without"
    )]
    Widths {
        /// The item of the descriptor: 0x12, the shape, or 0x13, the format.
        id: u64,
        /// The flavour.
        flavour: Flavour,
    },
    /// A dimension is larger than an address of the flavour.
    #[error("item {id:#x}: a dimension exceeds what SPEAD-{flavour} can say")]
    Shape {
        /// The item described.
        id: u64,
        /// The flavour asked for.
        flavour: Flavour,
    },
    /// The descriptor is not a packet.
    #[error("a descriptor is not a SPEAD packet: {0}")]
    Packet(#[from] PacketError),
    /// A part of the descriptor starts after its end.
    #[error("part {id:#x} of a descriptor starts at {address}, after the descriptor's end")]
    Address {
        /// Which part.
        id: u64,
        /// Where it says it starts.
        address: u64,
    },
    /// The numpy header is no dictionary of `descr`, `fortran_order` and `shape`.
    #[error(
        "`{}` is not a numpy header: expected {{'descr': ..., 'fortran_order': ..., 'shape': ...}}",
        Printable(.0)
    )]
    NumpyHeader(String),
    /// The descriptor does not say which item it describes.
    #[error("a descriptor does not say which item it describes")]
    NoId,
}

#[cfg(test)]
mod tests;
