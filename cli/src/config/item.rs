//! The items of a heap, as they are written and as they are sent.

use std::fmt;
use std::str::FromStr;

use super::{ArrayType, ElementType, InvalidValue};
use crate::source::DEFAULT_ITEM;
use doorbell::settings;
use doorbell::wire::{Descriptor, Flavour, NumpyHeader, item};

/// An item as it is written: `[ID=]NAME:TYPE[DIMS]`, such as `adc_x:i8[4096]` or
/// `0x3400=w:<f4[16x2]`. Without an ID it gets the next free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSpec {
    id: Option<u64>,
    name: String,
    array: ArrayType,
}

/// An item of a heap, with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    id: u64,
    name: String,
    array: ArrayType,
}

impl ItemSpec {
    /// The dimensions of its value.
    pub(super) fn shape(&self) -> &[u64] {
        self.array.shape()
    }
}

impl Item {
    /// The item's id, unique in its heap and within the flavour.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The item's name: printable ASCII, unique in its heap.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type and shape of its value.
    pub fn array(&self) -> &ArrayType {
        &self.array
    }

    /// The descriptor that tells receivers about it: by format and shape for SPEAD's own types, by
    /// numpy header, beside the shape, for numpy's.
    pub fn descriptor(&self) -> Descriptor {
        let shape = self.array.shape();
        let (format, numpy_header) = match self.array.element() {
            ElementType::Spead(field) => (vec![*field], None),
            ElementType::Numpy { descr, .. } => (vec![], Some(NumpyHeader::new(descr, shape))),
        };
        Descriptor {
            id: self.id,
            name: self.name.clone(),
            description: String::new(),
            format,
            shape: shape.iter().copied().map(Some).collect(),
            numpy_header,
        }
    }

    /// Gives every item its id: the one it asks for, or the next free one from 0x3300 upwards. An
    /// error is the offending item and what would be right.
    pub(super) fn number(
        specs: &[ItemSpec],
        flavour: Flavour,
    ) -> Result<Vec<Self>, (String, String)> {
        let mut ids: Vec<u64> = specs.iter().filter_map(|spec| spec.id).collect();
        let mut next = FIRST_ID;
        let mut items: Vec<Self> = Vec::with_capacity(specs.len());
        for spec in specs {
            let wrong = |hint: String| Err((spec.to_string(), hint));
            let id = spec.id.unwrap_or_else(|| {
                while ids.contains(&next) {
                    next += 1;
                }
                ids.push(next);
                next
            });
            if id > flavour.max_id() {
                let max = flavour.max_id();
                return wrong(format!(
                    "id {id:#x} does not fit flavour {flavour}, whose ids end at {max:#x}"
                ));
            }
            if id <= item::DESCRIPTOR_DTYPE {
                return wrong(format!(
                    "ids up to {:#x} are SPEAD's own; take one from 0x1000 up",
                    item::DESCRIPTOR_DTYPE
                ));
            }
            if let Some(other) =
                items.iter().find(|other| other.id == id || other.name == spec.name)
            {
                return wrong(format!(
                    "`{other}` has that id or name already; each item needs its own"
                ));
            }
            items.push(Self { id, name: spec.name.clone(), array: spec.array.clone() });
        }
        Ok(items)
    }
}

impl From<Item> for ItemSpec {
    fn from(item: Item) -> Self {
        Self { id: Some(item.id), name: item.name, array: item.array }
    }
}

impl FromStr for ItemSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |hint: &str| InvalidValue::new(text, "an item", hint);
        let (name, array) = text
            .split_once(':')
            .ok_or_else(|| invalid("write [ID=]NAME:TYPE[DIMS], such as adc_x:i8[4096]"))?;
        let (id, name) = match name.split_once('=') {
            Some((id, name)) => {
                let id = settings::number(id)
                    .ok_or_else(|| invalid("before `=` goes a number, the item's id: 0x3400=w"))?;
                (Some(id), name)
            }
            None => (None, name),
        };
        // The comma separates items on the command line; SPEAD names are ASCII.
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b",=".contains(&byte))
        {
            return Err(invalid("its name is printable ASCII without space, comma, `:` and `=`"));
        }
        let array = array.parse().map_err(|error: InvalidValue| error.within(text, "an item"))?;
        Ok(Self { id, name: name.to_owned(), array })
    }
}

impl fmt::Display for ItemSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            write!(f, "{id:#x}=")?;
        }
        write!(f, "{}:{}", self.name, self.array)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}={}:{}", self.id, self.name, self.array)
    }
}

/// Where ids that are not given start: the tutorial's `adc_samples`.
pub(super) const FIRST_ID: u64 = DEFAULT_ITEM;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell::wire::Field;
    use proptest::prelude::*;

    fn number(specs: &[&str], address_bits: u8) -> Result<Vec<String>, (String, String)> {
        let specs: Vec<ItemSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let items = Item::number(&specs, Flavour::new(address_bits).unwrap())?;
        Ok(items.iter().map(Item::to_string).collect())
    }

    #[test]
    fn ids_count_up_around_the_given_ones() {
        assert_eq!(
            number(&["a:u8", "0x3301=b:u8", "c:u8[2]", "13056=d:<f4"], 48).unwrap(),
            ["0x3302=a:u8[]", "0x3301=b:u8[]", "0x3303=c:u8[2]", "0x3300=d:<f4[]"]
        );
    }

    #[test]
    fn ids_are_checked() {
        let hint = |specs: &[&str], bits| number(specs, bits).unwrap_err();
        let (item, text) = hint(&["0x8000=a:u8"], 48);
        assert_eq!(item, "0x8000=a:u8[]");
        assert_eq!(text, "id 0x8000 does not fit flavour 64-48, whose ids end at 0x7fff");
        assert!(hint(&["a:u8"], 56).1.contains("whose ids end at 0x7f"));
        assert!(hint(&["5=a:u8"], 40).1.contains("take one from 0x1000 up"));
        assert!(
            hint(&["a:u8", "a:u8"], 40).1.contains("`0x3300=a:u8[]` has that id or name already")
        );
        assert!(hint(&["9999=a:u8", "9999=b:u8"], 40).1.contains("each item needs its own"));
    }

    #[test]
    fn descriptors_say_format_or_dtype() {
        let specs = ["adc:i10[4]".parse().unwrap(), "w:<f4[16x2]".parse().unwrap()];
        let items = Item::number(&specs, Flavour::SPEAD_64_40).unwrap();
        let adc = items[0].descriptor();
        assert_eq!(
            (adc.id, adc.format, adc.shape),
            (0x3300, vec![Field::new(b'i', 10)], vec![Some(4)])
        );
        assert_eq!(adc.numpy_header, None);
        let w = items[1].descriptor();
        assert_eq!((w.format, w.shape), (vec![], vec![Some(16), Some(2)]));
        assert_eq!(w.numpy_header, Some(NumpyHeader::new("<f4", &[16, 2])));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, hint) in [
            ("", "write [ID=]NAME:TYPE[DIMS], such as adc_x:i8[4096]"),
            ("adc_x", "write [ID=]NAME:TYPE[DIMS]"),
            ("x=w:u8", "before `=` goes a number"),
            (":u8", "its name is printable ASCII"),
            ("a b:u8", "its name is printable ASCII"),
            ("é:u8", "its name is printable ASCII"),
            ("adc_x:u12[3]", "make the number of elements a multiple of 2"),
        ] {
            let message = text.parse::<ItemSpec>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{text}` is not an item: ")), "{message}");
            assert!(message.contains(hint), "{message}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(id: Option<u64>, name in "[!-+\\--9;<>-~]{1,20}", array in r"[ui]8\[[1-9]x[1-9]\]|<f4\[\]") {
            let spec = ItemSpec { id, name, array: array.parse().unwrap() };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_panics(text: String, near in r"[0-9a-fx]{0,20}=?[a-z]{0,3}:[ui<>f0-9]{0,5}\[?[0-9x]{0,9}\]?") {
            let _ = (text.parse::<ItemSpec>(), near.parse::<ItemSpec>());
        }
    }
}
