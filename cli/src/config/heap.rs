//! What a heap holds.

use doorbell::settings::{Size, keys::FLAVOUR};
use doorbell::wire::Flavour;

use crate::source::Cut;

use super::item::FIRST_ID;
use super::program::{DTYPE, HEAP_SIZE, ITEMS, SHAPE, SOURCE};
use super::{ArrayType, InvalidValue, Item, ItemSpec, Program, SettingsError, SourceKind};

/// What a heap holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeapContent {
    /// The items of the source, with this much payload: at least 1 byte, no more than the flavour can
    /// address.
    Size(Size),
    /// These items, at least one.
    Items(Vec<Item>),
    /// A part of the `.npy` file that is the source.
    Npy(Cut),
}

impl HeapContent {
    /// Bytes of payload in a heap, unless the file is yet to say.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Size(size) => Some(size.bytes()),
            Self::Items(items) => {
                Some(items.iter().fold(0, |sum, item| item.array().bytes().saturating_add(sum)))
            }
            Self::Npy(_) => None,
        }
    }
}

/// The item that a frame is, where its shape is given: with the type of its samples, but for arrays, which
/// say that themselves.
fn frame(program: &Program, source: &SourceKind) -> Result<Option<ItemSpec>, SettingsError> {
    let is_npy = matches!(source, SourceKind::Npy(_));
    let (dtype, shape) = match (&program.dtype, &program.shape) {
        (None, None) => return Ok(None),
        (Some(_), _) if is_npy => {
            let hint = format!("{source} itself says what it holds; drop {}", DTYPE);
            return Err(SettingsError::conflict(DTYPE, SOURCE, hint));
        }
        (None, Some(shape)) if is_npy => ("u8", shape),
        (Some(dtype), Some(shape)) => (dtype.as_str(), shape),
        (Some(_), None) => {
            let hint = format!("{DTYPE} needs the shape of a frame, such as 2160x3840x3");
            return Err(SettingsError::missing(SHAPE, hint));
        }
        (None, Some(_)) => {
            let hint = format!("{SHAPE} needs the type of its samples, such as <f4 or u10");
            return Err(SettingsError::missing(DTYPE, hint));
        }
    };
    let key = if is_npy { SHAPE } else { DTYPE };
    let taken = [(ITEMS, !program.items.is_empty()), (HEAP_SIZE, program.size.is_some())];
    if let Some((other, _)) = taken.into_iter().find(|(_, given)| *given) {
        let hint = "type and shape say what a heap holds; give one of the two";
        return Err(SettingsError::conflict(key, other, hint));
    }
    let element: ArrayType = format!("{dtype}[8]")
        .parse()
        .map_err(|error: InvalidValue| SettingsError::unusable(DTYPE, dtype, error.hint()))?;
    format!("data:{}[{shape}]", element.element())
        .parse()
        .map(Some)
        .map_err(|error: InvalidValue| SettingsError::unusable(SHAPE, shape, error.hint()))
}

/// What a heap of that source holds, by these settings.
pub(super) fn content(
    program: &Program,
    source: &SourceKind,
    flavour: Flavour,
) -> Result<HeapContent, SettingsError> {
    let is_npy = matches!(source, SourceKind::Npy(_));
    if is_npy && !program.items.is_empty() {
        let hint = format!("{source} itself says what a heap holds; drop {ITEMS}");
        return Err(SettingsError::conflict(ITEMS, SOURCE, hint));
    }
    let frame = frame(program, source)?;
    let content = match (program.items.as_slice(), program.size) {
        (_, Some(size)) if is_npy && size.bytes() == 0 => {
            return Err(SettingsError::unusable(HEAP_SIZE, size, "a heap holds at least 1 byte"));
        }
        (_, size) if is_npy => HeapContent::Npy(match (frame, size) {
            (Some(frame), _) => Cut::Shape(frame.shape().to_vec()),
            (None, Some(size)) => Cut::Bytes(size.bytes()),
            (None, None) => Cut::Axis,
        }),
        ([], size) if frame.is_none() => HeapContent::Size(size.unwrap_or(HEAP_SIZE_DEFAULT)),
        ([_, ..], Some(_)) => {
            let hint = "the items are the size; give one of the two";
            return Err(SettingsError::conflict(ITEMS, HEAP_SIZE, hint));
        }
        (specs, _) => {
            let frame = frame.as_slice();
            let items = Item::number(if specs.is_empty() { frame } else { specs }, flavour)
                .map_err(|(item, hint)| SettingsError::unusable(ITEMS, item, hint))?;
            HeapContent::Items(items)
        }
    };
    if !matches!(content, HeapContent::Items(_)) && flavour.max_id() < FIRST_ID {
        let max = flavour.max_id();
        let hint = format!("its item ids end at {max:#x}; give {ITEMS} with ids, or take 64-40");
        return Err(SettingsError::unusable(FLAVOUR, flavour, hint));
    }
    if let Some(bytes) = content.bytes() {
        let (key, given) = match &content {
            HeapContent::Items(_) => (ITEMS, format!("{bytes} bytes together")),
            _ => (HEAP_SIZE, Size::from_bytes(bytes).to_string()),
        };
        let max = flavour.max_value();
        if bytes == 0 {
            return Err(SettingsError::unusable(key, given, "a heap holds at least 1 byte"));
        }
        if bytes > max {
            let hint = format!("heaps of flavour {flavour} end at {max} bytes");
            return Err(SettingsError::unusable(key, given, hint));
        }
    }
    Ok(content)
}

pub(super) const HEAP_SIZE_DEFAULT: Size = Size::from_bytes(8 << 10);
