//! What a descriptor says of the bytes of an item.

use std::fmt;

use thiserror::Error;

use super::bits::{bits_at, sign_extended};
use super::frame::Frame;
use super::heap::Content;
use crate::wire::{Descriptor, Field, Printable};

/// How the bytes of an item are to be read: what a descriptor says, once it makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemType {
    elements: Elements,
    /// At most one dimension is for the item's length to decide.
    shape: Vec<Option<u64>>,
}

/// What an item comes to as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    /// Elements of the frame.
    pub elements: usize,
    /// Bytes of them, widened to types of numpy.
    pub bytes: usize,
    /// Bytes of the item that its type leaves over: padding, or more than it should have.
    pub excess: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Elements {
    /// As numpy stores them.
    Numpy { descr: String, size: usize, fortran_order: bool },
    /// Fields of any number of bits, big-endian, without gaps.
    Packed(Vec<Field>),
}

impl ItemType {
    /// Reads a descriptor.
    ///
    /// # Errors
    ///
    /// If there is no such element type, or the shape is not one.
    pub fn of(descriptor: &Descriptor) -> Result<Self, ItemTypeError> {
        let (elements, shape) = match &descriptor.numpy_header {
            Some(header) => {
                let dtype = |reason| ItemTypeError::Dtype { descr: header.descr.clone(), reason };
                let size = header.element_size().map_err(dtype)?;
                if size == 0 {
                    return Err(dtype("elements without bytes".into()));
                }
                let (descr, fortran_order) = (header.descr.clone(), header.fortran_order);
                let shape = header.shape.iter().copied().map(Some).collect();
                (Elements::Numpy { descr, size, fortran_order }, shape)
            }
            None => {
                let fields = descriptor.format.clone();
                match fields.iter().find(|field| numpy_type(**field).is_none()) {
                    Some(field) => return Err(ItemTypeError::Format(*field)),
                    None if fields.is_empty() => return Err(ItemTypeError::NoFormat),
                    None => (Elements::Packed(fields), descriptor.shape.clone()),
                }
            }
        };
        if shape.len() > MAX_DIMENSIONS || shape.iter().filter(|it| it.is_none()).count() > 1 {
            return Err(ItemTypeError::Shape(shape));
        }
        Ok(Self { elements, shape })
    }

    /// Reads the item out of a heap, fields widened to the next type of numpy, little-endian.
    ///
    /// An immediate is right-aligned. Bytes beyond what the shape takes are padding.
    ///
    /// # Errors
    ///
    /// If there are too few bytes.
    pub fn frame(&self, content: Content<'_>) -> Result<Frame, ItemTypeError> {
        let immediate;
        let bytes = match content {
            Content::Addressed(bytes) => bytes,
            Content::Immediate(value) => {
                immediate = value.to_be_bytes();
                &immediate[immediate.len() - self.len(content)..]
            }
        };
        let (shape, count) = self.fit(bytes.len())?;
        let frame = match &self.elements {
            Elements::Numpy { descr, size, fortran_order } => {
                let bytes = &bytes[..count * size];
                let bytes = match *fortran_order && shape.len() > 1 {
                    true => c_order(bytes, *size, &shape),
                    false => bytes.to_vec(),
                };
                Frame { descr: descr.clone(), shape, bytes }
            }
            Elements::Packed(fields) => {
                Frame { descr: descr(fields), shape, bytes: unpack(bytes, count, fields) }
            }
        };
        Ok(frame)
    }

    /// What the item in a heap comes to as a frame.
    ///
    /// # Errors
    ///
    /// If there are too few bytes.
    pub fn measure(&self, content: Content<'_>) -> Result<FrameSize, ItemTypeError> {
        let len = self.len(content);
        let (_, elements) = self.fit(len)?;
        let element = match &self.elements {
            Elements::Numpy { size, .. } => *size,
            Elements::Packed(fields) => {
                fields.iter().filter_map(|field| numpy_type(*field)).map(|(_, size)| size).sum()
            }
        };
        let used = self.bytes(Some(elements as u64)).unwrap_or(len);
        let excess = len.saturating_sub(used);
        Ok(FrameSize { elements, bytes: elements.saturating_mul(element), excess })
    }

    /// Bytes of the item: an immediate has as many as its type, if they fit.
    fn len(&self, content: Content<'_>) -> usize {
        match content {
            Content::Addressed(bytes) => bytes.len(),
            Content::Immediate(_) => {
                let shape = self.shape.iter().map(|dimension| dimension.unwrap_or(1));
                self.bytes(elements(shape)).unwrap_or(usize::MAX).min(size_of::<u64>())
            }
        }
    }

    /// The shape of so many bytes, and how many elements that has.
    fn fit(&self, bytes: usize) -> Result<(Vec<u64>, usize), ItemTypeError> {
        let available = bytes as u64 * 8 / self.element_bits();
        let known = elements(self.shape.iter().copied().flatten());
        let unknown = known.and_then(|known| available.checked_div(known)).unwrap_or(0);
        let shape: Vec<u64> = self.shape.iter().map(|it| it.unwrap_or(unknown)).collect();
        let count = elements(shape.iter().copied()).filter(|&count| count <= available);
        let count =
            count.ok_or_else(|| ItemTypeError::TooShort { expected: self.to_string(), bytes })?;
        // No more than there are bits.
        Ok((shape, count as usize))
    }

    fn element_bits(&self) -> u64 {
        match &self.elements {
            Elements::Numpy { size, .. } => (*size as u64).saturating_mul(8),
            Elements::Packed(fields) => fields.iter().map(|field| u64::from(field.bits)).sum(),
        }
    }

    /// Bytes of this many elements.
    fn bytes(&self, elements: Option<u64>) -> Option<usize> {
        usize::try_from(elements?.checked_mul(self.element_bits())?.div_ceil(8)).ok()
    }
}

/// `u10 (2160, 3840, 3)`
impl fmt::Display for ItemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.elements {
            Elements::Numpy { descr, .. } => f.write_str(descr.trim_matches('\''))?,
            Elements::Packed(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}{}", field.code.escape_ascii(), field.bits)?;
                }
            }
        }
        f.write_str(" (")?;
        for (index, dimension) in self.shape.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match dimension {
                Some(dimension) => write!(f, "{dimension}")?,
                None => f.write_str("any")?,
            }
        }
        f.write_str(if self.shape.len() == 1 { ",)" } else { ")" })
    }
}

/// How many elements an array of this shape has; `None` if no number holds that.
fn elements(shape: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    match shape.clone().any(|dimension| dimension == 0) {
        true => Some(0),
        false => shape.into_iter().try_fold(1_u64, u64::checked_mul),
    }
}

/// The type of numpy that a field is widened to, and its bytes; `None` if there is none.
fn numpy_type(field: Field) -> Option<(&'static str, usize)> {
    Some(match (field.code, field.bits) {
        (b'u', 1..=8) => ("|u1", 1),
        (b'u', 9..=16) => ("<u2", 2),
        (b'u', 17..=32) => ("<u4", 4),
        (b'u', 33..=64) => ("<u8", 8),
        (b'i', 1..=8) => ("|i1", 1),
        (b'i', 9..=16) => ("<i2", 2),
        (b'i', 17..=32) => ("<i4", 4),
        (b'i', 33..=64) => ("<i8", 8),
        (b'f', 16) => ("<f2", 2),
        (b'f', 32) => ("<f4", 4),
        (b'f', 64) => ("<f8", 8),
        (b'b', 1..=64) => ("|b1", 1),
        (b'c', 8) => ("|S1", 1),
        _ => return None,
    })
}

/// One field is a plain type; of several, numpy calls the first `f0`.
fn descr(fields: &[Field]) -> String {
    let name = |field: &Field| numpy_type(*field).map_or("", |(name, _)| name);
    match fields {
        [field] => format!("'{}'", name(field)),
        fields => {
            let named = fields.iter().enumerate();
            let named: Vec<String> =
                named.map(|(index, field)| format!("('f{index}', '{}')", name(field))).collect();
            format!("[{}]", named.join(", "))
        }
    }
}

fn unpack(bytes: &[u8], count: usize, fields: &[Field]) -> Vec<u8> {
    let size: usize =
        fields.iter().filter_map(|field| numpy_type(*field)).map(|(_, size)| size).sum();
    let mut out = Vec::with_capacity(count * size);
    let mut at = 0;
    if let [field] = fields {
        // A constant width lets the compiler do without a loop over bytes.
        let mut each = |push: fn(&mut Vec<u8>, u64)| {
            for _ in 0..count {
                push(&mut out, widened(bits_at(bytes, at, field.bits), *field));
                at += field.bits as usize;
            }
        };
        match numpy_type(*field).map_or(0, |(_, size)| size) {
            1 => each(|out, value| out.push(value as u8)),
            2 => each(|out, value| out.extend_from_slice(&(value as u16).to_le_bytes())),
            4 => each(|out, value| out.extend_from_slice(&(value as u32).to_le_bytes())),
            _ => each(|out, value| out.extend_from_slice(&value.to_le_bytes())),
        }
        return out;
    }
    for _ in 0..count {
        for field in fields {
            let size = numpy_type(*field).map_or(0, |(_, size)| size);
            let value = widened(bits_at(bytes, at, field.bits), *field);
            out.extend_from_slice(&value.to_le_bytes()[..size]);
            at += field.bits as usize;
        }
    }
    out
}

fn widened(value: u64, field: Field) -> u64 {
    match field.code {
        b'i' => sign_extended(value, field.bits) as u64,
        b'b' => u64::from(value != 0),
        _ => value,
    }
}

/// Elements whose first index varies fastest, so that the last one does.
fn c_order(bytes: &[u8], size: usize, shape: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0_u64; shape.len()];
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size as u64;
    for dimension in shape {
        strides.push(stride);
        stride = stride.saturating_mul(*dimension);
    }
    while out.len() < bytes.len() {
        let at: u64 = index.iter().zip(&strides).map(|(index, stride)| index * stride).sum();
        out.extend_from_slice(&bytes[at as usize..at as usize + size]);
        for (index, dimension) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *dimension {
                break;
            }
            *index = 0;
        }
    }
    out
}

/// Why an item cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ItemTypeError {
    /// The element type of a numpy header is none.
    #[error("dtype {descr}: {reason}", descr = Printable(.descr))]
    Dtype {
        /// The type.
        descr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Numpy has no type for a field.
    #[error("format ('{code}', {bits}): numpy has no type for it; it has one for u and i of up to 64 bits, f of 16, 32 and 64, b, and c of 8", code = .0.code.escape_ascii(), bits = .0.bits)]
    Format(Field),
    /// The descriptor has neither numpy header nor format.
    #[error("the descriptor says nothing of the elements")]
    NoFormat,
    /// More dimensions than numpy has, or more than one of unknown length.
    #[error("shape {}: expected at most {MAX_DIMENSIONS} dimensions, and at most one unknown", Printable(&format!("{:?}", .0)))]
    Shape(Vec<Option<u64>>),
    /// There are fewer bytes than the type takes.
    #[error("{bytes} bytes are too few for {expected}", expected = Printable(.expected))]
    TooShort {
        /// The type.
        expected: String,
        /// How many there are.
        bytes: usize,
    },
}

/// Those that numpy 1 can have, less one for the axis of heaps.
const MAX_DIMENSIONS: usize = 31;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::NumpyHeader;

    fn descriptors() -> impl Strategy<Value = Descriptor> {
        let code = prop::sample::select(&b"uifbcx"[..]);
        let field = (code, prop_oneof![0_u32..70, any::<u32>()]);
        let dimension =
            prop_oneof![Just(None), (0_u64..5).prop_map(Some), any::<u64>().prop_map(Some)];
        let numpy = (
            "'[<>|][uifbcSUVO][0-9]{1,3}'|\\[\\('a', '<f4'\\), \\('b', '\\|V[0-9]'\\)\\]",
            any::<bool>(),
            prop::collection::vec(prop_oneof![0_u64..5, any::<u64>()], 0..4),
        );
        (
            prop::collection::vec(field, 0..4),
            prop::collection::vec(dimension, 0..4),
            prop::option::of(numpy),
        )
            .prop_map(|(fields, shape, numpy)| Descriptor {
                id: 1,
                format: fields.into_iter().map(|(code, bits)| Field::new(code, bits)).collect(),
                shape,
                numpy_header: numpy.map(|(descr, fortran_order, shape)| NumpyHeader {
                    descr,
                    fortran_order,
                    shape,
                }),
                ..Descriptor::default()
            })
    }

    proptest! {
        /// However many elements a shape claims. The widest element is to its one bit what eight
        /// bytes are.
        #[test]
        fn a_frame_is_no_larger_than_its_item_can_make_it(
            descriptor in descriptors(), data in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(item_type) = ItemType::of(&descriptor) {
                if let Ok(frame) = item_type.frame(Content::Addressed(&data)) {
                    prop_assert!(frame.bytes.len() <= 8 * data.len());
                }
                // Eight bytes, each with eight bits.
                if let Ok(frame) = item_type.frame(Content::Immediate(data.len() as u64)) {
                    prop_assert!(frame.bytes.len() <= 64);
                }
            }
        }
    }
}
