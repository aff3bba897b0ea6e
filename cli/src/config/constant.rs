//! Items that never change, as a file has them: `[[item]]`.

use serde::{Deserialize, Serialize};

use super::{HeapContent, Key, SettingsError};
use crate::source::{
    Constant, DEFAULT_ITEM, FRAME_NUMBER_ITEM, OFFSET_ITEM, SCALE_ITEM, TIMESTAMP_ITEM,
};
use doorbell::wire::{Descriptor, Field, Flavour, item};

/// An item with one value, sent in every heap, so that whoever joins late knows it; where payload is sent
/// from a file as it lies there, with the descriptors instead.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConstantItem {
    /// Identifier.
    pub id: u64,
    /// Name: printable ASCII without spaces.
    pub name: String,
    /// What it means, in ASCII.
    #[serde(default)]
    pub description: String,
    /// Its value.
    pub value: ConstantValue,
}

/// The value of a [`ConstantItem`]: numbers are sent in 64 bits, text as characters of 8.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(untagged, try_from = "toml::Value")]
pub enum ConstantValue {
    /// One integer.
    Integer(i64),
    /// One float.
    Float(f64),
    /// Text, in ASCII.
    Text(String),
    /// Integers, at least one.
    Integers(Vec<i64>),
    /// Floats, at least one.
    Floats(Vec<f64>),
}

impl TryFrom<toml::Value> for ConstantValue {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let wrong = |value: &toml::Value| {
            format!(
                "an item's value is an integer, a float, text, or an array of numbers, not {} {}",
                value.type_str(),
                value
            )
        };
        Ok(match value {
            toml::Value::Integer(value) => Self::Integer(value),
            toml::Value::Float(value) => Self::Float(value),
            toml::Value::String(text) if !text.is_empty() && text.is_ascii() => Self::Text(text),
            toml::Value::String(text) => {
                return Err(format!(
                    "`{text}` is not an item's text: write ASCII, 1 or more characters"
                ));
            }
            toml::Value::Array(values) if !values.is_empty() => {
                let integers = values.iter().map(toml::Value::as_integer).collect();
                let number = |value: &toml::Value| {
                    let integer = value.as_integer().map(|value| value as f64);
                    value.as_float().or(integer).ok_or_else(|| wrong(value))
                };
                match integers {
                    Some(integers) => Self::Integers(integers),
                    None => Self::Floats(values.iter().map(number).collect::<Result<_, _>>()?),
                }
            }
            other => return Err(wrong(&other)),
        })
    }
}

impl ConstantValue {
    /// Format, shape, and the bytes, big-endian.
    fn encode(&self) -> (Field, Option<usize>, Vec<u8>) {
        let integers =
            |values: &[i64]| values.iter().flat_map(|value| value.to_be_bytes()).collect();
        let floats = |values: &[f64]| values.iter().flat_map(|value| value.to_be_bytes()).collect();
        match self {
            Self::Integer(value) => (INTEGER, None, integers(&[*value])),
            Self::Float(value) => (FLOAT, None, floats(&[*value])),
            Self::Text(text) => (CHARACTER, Some(text.len()), text.clone().into_bytes()),
            Self::Integers(values) => (INTEGER, Some(values.len()), integers(values)),
            Self::Floats(values) => (FLOAT, Some(values.len()), floats(values)),
        }
    }
}

impl ConstantItem {
    /// The item as it is sent.
    pub fn constant(&self) -> Constant {
        let (field, len, bytes) = self.value.encode();
        let descriptor = Descriptor {
            id: self.id,
            name: self.name.clone(),
            description: self.description.clone(),
            format: vec![field],
            shape: len.into_iter().map(|len| Some(len as u64)).collect(),
            numpy_header: None,
        };
        Constant { descriptor, bytes }
    }

    /// Whether these can be sent with heaps of this kind: ids and names are free, and text is ASCII.
    pub(super) fn check(
        items: &[Self],
        content: &HeapContent,
        flavour: Flavour,
    ) -> Result<(), SettingsError> {
        let mut taken: Vec<(u64, &str, &str)> = OURS.to_vec();
        match content {
            HeapContent::Items(items) => {
                taken.extend(items.iter().map(|item| (item.id(), item.name(), "heap.items")));
            }
            HeapContent::Size(_) | HeapContent::Npy(_) => {
                taken.extend([
                    (DEFAULT_ITEM, "data", SOURCE),
                    (DEFAULT_ITEM, "adc_samples", SOURCE),
                ]);
            }
        }
        for Self { id, name, description, .. } in items {
            let wrong_id = |hint| Err(SettingsError::unusable(ID, format_args!("{id:#x}"), hint));
            if *id <= item::DESCRIPTOR_DTYPE {
                let last = item::DESCRIPTOR_DTYPE;
                return wrong_id(format!(
                    "ids up to {last:#x} are SPEAD's own; take one from 0x1000 up"
                ));
            }
            if *id > flavour.max_id().min(flavour.max_value()) {
                return wrong_id(format!(
                    "ids of flavour {flavour} end at {:#x}",
                    flavour.max_id()
                ));
            }
            let named = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
            if name.is_empty() || !named(name) {
                let hint = "names are printable ASCII without spaces";
                return Err(SettingsError::unusable(NAME, format_args!("`{name}`"), hint));
            }
            if !description.is_ascii() {
                let hint = "descriptions are ASCII";
                return Err(SettingsError::unusable(
                    DESCRIPTION,
                    format_args!("`{description}`"),
                    hint,
                ));
            }
            if let Some((_, other, whose)) = taken.iter().find(|(taken, ..)| taken == id) {
                return wrong_id(format!("it is the id of `{other}`, of {whose}; take another"));
            }
            if let Some((_, _, whose)) = taken.iter().find(|(_, taken, _)| taken == name) {
                let hint = format!("it is the name of an item of {whose}; take another");
                return Err(SettingsError::unusable(NAME, format_args!("`{name}`"), hint));
            }
            taken.push((*id, name, "another [[item]]"));
        }
        Ok(())
    }
}

const INTEGER: Field = Field::new(b'i', 64);
const FLOAT: Field = Field::new(b'f', 64);
const CHARACTER: Field = Field::new(b'c', 8);
const SOURCE: &str = "the source";
/// Items that streams have, or may have.
const OURS: [(u64, &str, &str); 4] = [
    (TIMESTAMP_ITEM, "timestamp", "every stream"),
    (FRAME_NUMBER_ITEM, "frame_number", "--frame-number"),
    (SCALE_ITEM, "scale", "--pack"),
    (OFFSET_ITEM, "offset", "--pack"),
];
const ID: Key = Key::new("item.id");
const NAME: Key = Key::new("item.name");
const DESCRIPTION: Key = Key::new("item.description");
