//! What several targets do.

use doorbell::receive::{Content, ItemType};
use doorbell_cli::recv::Picture;

/// Reads an item as its type says, in each of the ways there are.
///
/// # Panics
///
/// If the frame is larger than eight times the item: the widest element is to its one bit what eight bytes
/// are.
pub fn read_frame(item_type: &ItemType, content: Content<'_>) {
    let Ok(frame) = item_type.frame(content) else { return };
    let len = match content {
        Content::Addressed(bytes) => bytes.len(),
        Content::Immediate(_) => size_of::<u64>(),
    };
    assert!(frame.bytes.len() <= 8 * len, "{len} bytes became {}", frame.bytes.len());
    let _ = frame.scaled(2.0, 1.0);
    let _ = Picture::of(&frame);
}
