//! How many heaps there are, and where their descriptors go.

use super::keys::{DESCRIPTORS_EVERY, HEAPS};
use super::stream::at_least_1;
use super::{DescriptorPlacement, Every, Key, Row, Section, Settings, SettingsError};

pub(super) const SECTION: Section<Settings> = Section {
    name: "heap",
    title: "Heaps",
    settings: &[
        Row::optional(HEAPS, "heaps", "N", "Number of heaps", "65536, or all of the file", |it| {
            &mut it.heap.count
        })
        .number(u64::MAX),
        Row::one(
            Key::new("heap.descriptors"),
            "descriptors",
            "first|own",
            "Send descriptors in the first heap or in a heap of their own",
            "first",
            |it| &mut it.heap.descriptors,
        )
        .choice(),
        Row::optional(
            DESCRIPTORS_EVERY,
            "descriptors_every",
            "HEAPS|TIME",
            "Send descriptors again after this many heaps, or this long, for receivers that join late",
            "never",
            |it| &mut it.heap.descriptors_every,
        )
        .dashes(),
    ],
};

/// How many heaps there are, and where their descriptors go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapSettings {
    /// How many heaps the stream has, of all senders together, at least 1; `None` is as many as are
    /// submitted.
    pub count: Option<u64>,
    /// Where descriptors travel.
    pub descriptors: DescriptorPlacement,
    /// How often they are sent again, in heaps of their own; `None` is never.
    pub descriptors_every: Option<Every>,
}

impl HeapSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.count.map_or(Ok(()), |count| at_least_1(HEAPS, count))
    }
}
