//! The item whose frames are wanted.

use doorbell::receive::{Catalogue, Content, Frame, FrameSize, Heap};
use doorbell::settings;
use doorbell::wire::Printable;

/// Picks frames out of heaps.
pub struct Frames {
    /// As it was asked for.
    item: Option<String>,
    /// As it was found, where nothing was asked for.
    found: Option<u64>,
    /// Whether a heap had what was asked for.
    is_found: bool,
    scaling: Option<Scaling>,
    /// Bytes that a frame may take.
    max_len: u64,
}

/// What samples are multiplied with, and what is added then, as far as the stream has said.
#[derive(Clone, Copy, Default)]
struct Scaling {
    scale: Option<f64>,
    offset: Option<f64>,
}

/// What a heap has of the item.
pub enum Found {
    /// Its frame, and what is to be said of the item if it has more bytes than that.
    Frame(Frame, Option<String>),
    /// Nothing: other heaps may have it.
    Absent,
    /// Bytes that cannot be read, and why.
    Unreadable(String),
}

impl Frames {
    /// Frames of the item of that name or identifier, else of the largest; scaled if wanted. Samples of few
    /// bits become longer: no frame is to take more than `max_len` bytes.
    pub fn of(item: Option<String>, scale: bool, max_len: u64) -> Self {
        let scaling = scale.then(Scaling::default);
        Self { item, found: None, is_found: false, scaling, max_len }
    }

    /// Why there was no frame, if an item was asked for that no heap had.
    pub fn unfound(&self) -> Option<String> {
        let item = self.item.as_ref().filter(|_| !self.is_found)?;
        Some(format!("no heap had an item `{item}`, which --item asks for"))
    }

    /// Finds out whether a heap has the item that was asked for.
    pub fn look_for(&mut self, heap: &Heap, catalogue: &Catalogue) {
        if self.item.is_some() && !self.is_found {
            let items: Vec<(u64, Content<'_>)> = heap.items().collect();
            let id = self.id(&items, catalogue);
            self.is_found = id.is_some_and(|id| content(&items, id).is_some());
        }
    }

    /// Whether samples were to be scaled, and the stream has not said by how much.
    pub fn is_unscaled(&self) -> bool {
        self.scaling.is_some_and(|scaling| scaling.scale.is_none())
    }

    /// The frame in a heap.
    pub fn find(&mut self, heap: &Heap, catalogue: &Catalogue) -> Found {
        let items: Vec<(u64, Content<'_>)> = heap.items().collect();
        if let Some(scaling) = &mut self.scaling {
            let number = |name| {
                let described = catalogue.named(name)?;
                let content = content(&items, described.descriptor.id)?;
                described.item_type.as_ref().ok()?.frame(content).ok()?.value()
            };
            scaling.scale = number("scale").or(scaling.scale);
            scaling.offset = number("offset").or(scaling.offset);
        }
        let Some(id) = self.id(&items, catalogue) else { return Found::Absent };
        let Some(content) = content(&items, id) else { return Found::Absent };
        self.is_found = true;
        let Some(described) = catalogue.item(id) else {
            return Found::Unreadable(match catalogue.first_error() {
                Some(error) => format!("no descriptor of item {id:#x} could be read: {error}"),
                None => format!(
                    "no descriptor of item {id:#x} has come: a sender repeats them with \
                     --descriptors-every, for those who join late"
                ),
            });
        };
        let unreadable = |error: &dyn ToString| {
            let name = Printable(&described.descriptor.name);
            Found::Unreadable(format!("item {id:#x} `{name}`: {}", error.to_string()))
        };
        let item_type = match &described.item_type {
            Ok(item_type) => item_type,
            Err(error) => return unreadable(error),
        };
        let FrameSize { elements, bytes, excess } = match item_type.measure(content) {
            Ok(size) => size,
            Err(error) => return unreadable(&error),
        };
        let scaled = self.scaling.map_or(0, |_| elements.saturating_mul(size_of::<f32>()));
        let bytes = bytes.max(scaled);
        if bytes as u64 > self.max_len {
            return unreadable(&format!("its frame takes {bytes} bytes, more than --max-heap"));
        }
        let frame = match item_type.frame(content) {
            Ok(frame) => frame,
            Err(error) => return unreadable(&error),
        };
        let longer = (excess > 0).then(|| {
            let name = Printable(&described.descriptor.name);
            let item_type = item_type.to_string();
            let item_type = Printable(&item_type);
            format!("item {id:#x} `{name}` has {excess} bytes more than {item_type} takes")
        });
        match self.scaling {
            None => Found::Frame(frame, longer),
            Some(Scaling { scale, offset }) => {
                match frame.scaled(scale.unwrap_or(1.0), offset.unwrap_or(0.0)) {
                    Some(frame) => Found::Frame(frame, longer),
                    None => unreadable(&format!(
                        "{} is no number, to be scaled",
                        Printable(&frame.descr)
                    )),
                }
            }
        }
    }

    fn id(&mut self, items: &[(u64, Content<'_>)], catalogue: &Catalogue) -> Option<u64> {
        if let Some(wanted) = &self.item {
            return match catalogue.named(wanted) {
                Some(described) => Some(described.descriptor.id),
                None => settings::number(wanted),
            };
        }
        if self.found.is_none() {
            let len = |content: &Content<'_>| match content {
                Content::Immediate(_) => 0,
                Content::Addressed(bytes) => bytes.len(),
            };
            // The first of those that are equally long.
            let largest = items.iter().rev().max_by_key(|(_, content)| len(content));
            self.found = largest.map(|(id, _)| *id);
        }
        self.found
    }
}

fn content<'a>(items: &[(u64, Content<'a>)], id: u64) -> Option<Content<'a>> {
    items.iter().find(|(other, _)| *other == id).map(|(_, content)| *content)
}
