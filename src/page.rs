//! Sizes of pages of memory, those of x86-64, and of aarch64 with 4 KiB base pages.

use nix::unistd::{SysconfVar, sysconf};

/// Bytes of an ordinary page.
pub(crate) fn page_size() -> usize {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map_or(PAGE, |size| size as usize)
}

/// No kernel has smaller ones.
pub(crate) const PAGE: usize = 4096;
/// As `mmap(2)` takes the size: its logarithm.
pub(crate) const HUGE_PAGE_BITS: u8 = 21;
pub(crate) const HUGE_PAGE: usize = 1 << HUGE_PAGE_BITS;
