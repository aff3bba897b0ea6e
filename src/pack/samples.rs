//! Samples that are to be packed, wherever they lie.

use std::ops::Range;

use crate::region::MappedBytes;

/// Samples that are to be packed.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'a> {
    /// They stay what they are, and are read where they lie.
    Owned(&'a [u8]),
    /// Others may change them: they are copied to be read, block by block.
    Mapped(MappedBytes<'a>),
}

impl<'a> Samples<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len(),
            Self::Mapped(bytes) => bytes.len(),
        }
    }

    /// The first bytes, and the rest.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub(super) fn split_at(self, middle: usize) -> (Self, Self) {
        match self {
            Self::Owned(bytes) => {
                let (first, second) = bytes.split_at(middle);
                (Self::Owned(first), Self::Owned(second))
            }
            Self::Mapped(bytes) => {
                let part = |range| bytes.get(range).expect("within bounds");
                (Self::Mapped(part(0..middle)), Self::Mapped(part(middle..bytes.len())))
            }
        }
    }

    /// So many bytes at once, and those after them; the last block may have fewer.
    pub(super) fn blocks(self, len: usize) -> impl Iterator<Item = (Self, Self)> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let (block, others) = rest.split_at(len.min(rest.len()));
            rest = others;
            (block.len() > 0).then_some((block, others))
        })
    }

    /// Says that some bytes, those that there are, will be read soon, while others are worked on.
    #[inline]
    pub(super) fn prefetch(self, range: Range<usize>) {
        match self {
            // As the processor sees by itself.
            Self::Owned(_) => {}
            Self::Mapped(bytes) => bytes.prefetch(range),
        }
    }

    /// The bytes, in `room` if they have to be copied, which there is enough of.
    ///
    /// # Panics
    ///
    /// If there is not.
    #[inline]
    pub(super) fn read<'b>(self, room: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(bytes) => {
                let room = &mut room[..bytes.len()];
                for (offset, room) in (0..).step_by(AT_ONCE).zip(room.chunks_mut(AT_ONCE)) {
                    let copied = bytes.copy_to(offset, room);
                    debug_assert!(copied, "as many bytes as there are");
                }
                room
            }
        }
    }
}

impl<'a> From<&'a [u8]> for Samples<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Owned(bytes)
    }
}

impl<'a, const LEN: usize> From<&'a [u8; LEN]> for Samples<'a> {
    fn from(bytes: &'a [u8; LEN]) -> Self {
        Self::Owned(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Samples<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl<'a> From<MappedBytes<'a>> for Samples<'a> {
    fn from(bytes: MappedBytes<'a>) -> Self {
        Self::Mapped(bytes)
    }
}

/// Bytes copied by one call. Larger copies the C library may make by `rep movsb`, which is slow to begin: packing
/// samples of 64 bits took a tenth longer.
const AT_ONCE: usize = 1024;
