//! What a heap holds, and how many there are.

use super::keys::{DTYPE, FLAVOUR, HEAP_SIZE, HEAPS, ITEMS, SHAPE, SOURCE};
use super::resolve::at_least_1;
use super::{
    ArrayType, ConfigError, DescriptorPlacement, Every, HeapOptions, InvalidValue, Item, ItemSpec,
    Size, SourceKind, SourceOptions,
};
use crate::wire::Flavour;

/// What a heap holds, and how many there are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HeapConfig {
    /// What a heap holds.
    pub content: HeapContent,
    /// How many heaps to send, at least 1; `None` is as many as the source has.
    pub count: Option<u64>,
    /// Where descriptors travel.
    pub descriptors: DescriptorPlacement,
    /// How often they are sent again; `None` is never.
    pub descriptors_every: Option<Every>,
    /// Whether heaps are numbered by an item of their own.
    pub frame_number: bool,
}

/// What a heap holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeapContent {
    /// The items of the source, with this much payload: at least 1 byte, no more than the flavour can
    /// address.
    Size(Size),
    /// These items, at least one.
    Items(Vec<Item>),
    /// A part of the `.npy` file that is the source: of this shape, else one index of its leading axis.
    Npy(Option<Vec<u64>>),
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
fn frame(
    options: &SourceOptions,
    source: &SourceKind,
    heap: &HeapOptions,
) -> Result<Option<ItemSpec>, ConfigError> {
    let is_npy = matches!(source, SourceKind::Npy(_));
    let (dtype, shape) = match (&options.dtype, &options.shape) {
        (None, None) => return Ok(None),
        (Some(_), _) if is_npy => {
            let hint = format!("{source} itself says what it holds; drop {}", DTYPE.name());
            return Err(ConfigError::conflict(DTYPE, SOURCE, hint));
        }
        (None, Some(shape)) if is_npy => ("u8", shape),
        (Some(dtype), Some(shape)) => (dtype.as_str(), shape),
        (Some(_), None) => {
            let hint = format!("{DTYPE} needs the shape of a frame, such as 2160x3840x3");
            return Err(ConfigError::missing(SHAPE, hint));
        }
        (None, Some(_)) => {
            let hint = format!("{SHAPE} needs the type of its samples, such as <f4 or u10");
            return Err(ConfigError::missing(DTYPE, hint));
        }
    };
    let key = if is_npy { SHAPE } else { DTYPE };
    let taken = [(ITEMS, heap.items.is_some()), (HEAP_SIZE, heap.size.is_some())];
    if let Some((other, _)) = taken.into_iter().find(|(_, given)| *given) {
        let hint = "type and shape say what a heap holds; give one of the two";
        return Err(ConfigError::conflict(key, other, hint));
    }
    let element: ArrayType = format!("{dtype}[8]")
        .parse()
        .map_err(|error: InvalidValue| ConfigError::unusable(DTYPE, dtype, error.hint()))?;
    format!("data:{}[{shape}]", element.element())
        .parse()
        .map(Some)
        .map_err(|error: InvalidValue| ConfigError::unusable(SHAPE, shape, error.hint()))
}

pub(super) fn heap(
    options: HeapOptions,
    source_options: &SourceOptions,
    source: &SourceKind,
    flavour: Flavour,
) -> Result<HeapConfig, ConfigError> {
    if let SourceKind::Npy(_) = source {
        let taken = [
            (HEAP_SIZE, options.size.is_some(), "how large a heap is"),
            (ITEMS, options.items.is_some(), "what a heap holds"),
        ];
        if let Some((key, _, what)) = taken.into_iter().find(|(_, given, _)| *given) {
            let hint = format!("{source} itself says {what}; drop {}", key.name());
            return Err(ConfigError::conflict(key, SOURCE, hint));
        }
    }
    let frame = frame(source_options, source, &options)?;
    let content = match (options.items, options.size) {
        _ if matches!(source, SourceKind::Npy(_)) => {
            HeapContent::Npy(frame.map(|frame| frame.shape().to_vec()))
        }
        (Some(_), Some(_)) => {
            let hint = "the items are the size; give one of the two";
            return Err(ConfigError::conflict(ITEMS, HEAP_SIZE, hint));
        }
        (Some(specs), None) if specs.is_empty() => {
            let hint = "give an item, such as adc_x:i8[4096], or leave it out";
            return Err(ConfigError::unusable(ITEMS, "[]", hint));
        }
        (None, size) if frame.is_none() => HeapContent::Size(size.unwrap_or(HEAP_SIZE_DEFAULT)),
        (specs, _) => {
            let specs = specs.unwrap_or_else(|| frame.into_iter().collect());
            let items = Item::number(&specs, flavour)
                .map_err(|(item, hint)| ConfigError::unusable(ITEMS, item, hint))?;
            HeapContent::Items(items)
        }
    };
    if !matches!(content, HeapContent::Items(_)) && flavour.max_id() < super::item::FIRST_ID {
        let max = flavour.max_id();
        let hint = format!(
            "its item ids end at {max:#x}; give heap.items (--items) with ids, or take 64-40"
        );
        return Err(ConfigError::unusable(FLAVOUR, flavour, hint));
    }
    if let Some(bytes) = content.bytes() {
        let (key, given) = match &content {
            HeapContent::Items(_) => (ITEMS, format!("{bytes} bytes together")),
            _ => (HEAP_SIZE, Size::from_bytes(bytes).to_string()),
        };
        let max = flavour.max_value();
        if bytes == 0 {
            return Err(ConfigError::unusable(key, given, "a heap holds at least 1 byte"));
        }
        if bytes > max {
            let hint = format!("heaps of flavour {flavour} end at {max} bytes");
            return Err(ConfigError::unusable(key, given, hint));
        }
    }
    let generated = matches!(source, SourceKind::Pattern | SourceKind::Random { .. });
    let count = options.count.or(generated.then_some(HEAPS_DEFAULT));
    if let Some(count) = count {
        at_least_1(HEAPS, count)?;
    }
    Ok(HeapConfig {
        content,
        count,
        descriptors: options.descriptors.unwrap_or_default(),
        descriptors_every: options.descriptors_every,
        frame_number: options.frame_number.unwrap_or_default(),
    })
}

/// 65,536 heaps of 8 KiB: half a gibibyte.
const HEAPS_DEFAULT: u64 = 65_536;
const HEAP_SIZE_DEFAULT: Size = Size::from_bytes(8 << 10);
