//! A descriptor of any kind, after a byte that says how long it is, and an item that it describes.
#![no_main]

use doorbell::receive::{Content, ItemType};
use doorbell::wire::Descriptor;
use doorbell_fuzz::read_frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let (descriptor, item) = rest.split_at(usize::from(len).min(rest.len()));
    let Ok(descriptor) = Descriptor::decode(descriptor) else { return };
    let Ok(item_type) = ItemType::of(&descriptor) else { return };
    for content in [Content::Addressed(item), Content::Immediate(item.len() as u64)] {
        read_frame(&item_type, content);
    }
});
