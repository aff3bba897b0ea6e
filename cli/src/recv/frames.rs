//! The item whose frames are wanted.

use doorbell::receive::{Catalogue, Content, Frame, Heap};
use doorbell::settings;
use doorbell::wire::Printable;

/// Picks frames out of heaps.
pub struct Frames {
    /// As it was asked for.
    item: Option<String>,
    /// As it was found, where nothing was asked for.
    found: Option<u64>,
    scaling: Option<Scaling>,
}

/// What samples are multiplied with, and what is added then, as far as the stream has said.
#[derive(Clone, Copy, Default)]
struct Scaling {
    scale: Option<f64>,
    offset: Option<f64>,
}

/// What a heap has of the item.
pub enum Found {
    /// Its frame.
    Frame(Frame),
    /// Nothing: other heaps may have it.
    Absent,
    /// Bytes that cannot be read, and why.
    Unreadable(String),
}

impl Frames {
    /// Frames of the item of that name or identifier, else of the largest; scaled if wanted.
    pub fn of(item: Option<String>, scale: bool) -> Self {
        Self { item, found: None, scaling: scale.then(Scaling::default) }
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
        let Some(described) = catalogue.item(id) else {
            return Found::Unreadable(format!("no descriptor of item {id:#x} has come"));
        };
        let unreadable = |error: &dyn ToString| {
            let name = Printable(&described.descriptor.name);
            Found::Unreadable(format!("item {id:#x} `{name}`: {}", error.to_string()))
        };
        let frame = match &described.item_type {
            Ok(item_type) => match item_type.frame(content) {
                Ok(frame) => frame,
                Err(error) => return unreadable(&error),
            },
            Err(error) => return unreadable(error),
        };
        match self.scaling {
            None => Found::Frame(frame),
            Some(Scaling { scale, offset }) => {
                match frame.scaled(scale.unwrap_or(1.0), offset.unwrap_or(0.0)) {
                    Some(frame) => Found::Frame(frame),
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
