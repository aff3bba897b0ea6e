//! Memory that a heap is put together in.

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::page::{HUGE_PAGE, PAGE};

/// Memory that a heap is put together in, and after it another: it grows, and never shrinks. Pages that
/// nothing was written to are not there yet.
#[derive(Debug)]
pub(super) enum Buffer {
    Heap(Vec<u8>),
    /// On huge pages if the kernel has some to spare: a frame of 200 MB is 97 of them, where it takes
    /// 48,600 page faults to make as much of ordinary ones.
    Mapped(MmapMut),
}

impl Buffer {
    /// Makes room for `len` bytes, whatever they are. False if there is no memory.
    pub(super) fn make_room(&mut self, len: usize) -> bool {
        if len <= self.len() {
            return true;
        }
        // The old one first, so that both are not there at once.
        *self = Self::default();
        if len < PAGES_OF_ITS_OWN {
            let mut bytes = Vec::new();
            // Not twice as much, which `Vec` would take to grow fewer times.
            if bytes.try_reserve_exact(len).is_err() {
                return false;
            }
            bytes.resize(len, 0);
            *self = Self::Heap(bytes);
            return true;
        }
        let unit = if len < HUGE_PAGE { PAGE } else { HUGE_PAGE };
        let Some(len) = len.checked_next_multiple_of(unit) else { return false };
        let Ok(map) = MmapOptions::new().len(len).map_anon() else { return false };
        if len >= HUGE_PAGE
            && let Err(error) = map.advise(Advice::HugePage)
        {
            tracing::debug!("no huge pages for {len} bytes: {error}");
        }
        *self = Self::Mapped(map);
        true
    }

    /// Bytes that there is room for.
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

/// From here on a mapping of its own is worth two system calls.
const PAGES_OF_ITS_OWN: usize = 128 << 10;
