//! What stands in for mappings under Miri, which knows of no mmap(2): memory of the allocator's.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io::{self, Read};
use std::ptr::NonNull;
use std::slice;

use crate::page::page_size;

/// Memory that stays where it is until it is dropped.
pub(super) struct Mapping(NonNull<u8>, Layout);

// SAFETY: it owns the memory, and gives out nothing but a pointer to it.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(len, page_size()).map_err(io::Error::other)?;
        // SAFETY: mappings have at least one byte.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        Ok(Self(start.ok_or(io::ErrorKind::OutOfMemory)?, layout))
    }

    pub(super) fn reserved_huge(_: usize) -> Option<Self> {
        None
    }

    pub(super) fn transparent_huge(_: usize) -> Option<Self> {
        None
    }

    pub(super) fn file(mut file: &File, len: usize) -> io::Result<Self> {
        let map = Self::anonymous(len)?;
        // SAFETY: that many bytes, of which nobody knows yet.
        file.read_exact(unsafe { slice::from_raw_parts_mut(map.as_mut_ptr(), len) })?;
        Ok(map)
    }

    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated as such, and this is its only owner.
        unsafe { dealloc(self.0.as_ptr(), self.1) };
    }
}
