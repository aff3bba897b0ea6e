//! Mappings of the kernel's.

use std::fs::{self, File};
use std::io;

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};

use crate::page::{HUGE_PAGE, HUGE_PAGE_BITS};

/// A mapping that stays where it is until it is dropped.
pub(super) struct Mapping(MmapRaw);

impl Mapping {
    /// `len` bytes of zeros on ordinary pages, all of them populated.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(len).populate().map_anon()?.into()))
    }

    /// `len` bytes of zeros on reserved huge pages; `None` if too few are left.
    pub(super) fn reserved_huge(len: usize) -> Option<Self> {
        let map = MmapOptions::new().len(len).huge(Some(HUGE_PAGE_BITS)).populate().map_anon();
        Some(Self(map.ok()?.into()))
    }

    /// `len` bytes of zeros on transparent huge pages; `None` if the kernel gives fewer.
    pub(super) fn transparent_huge(len: usize) -> Option<Self> {
        Some(Self(transparent(len)?.into()))
    }

    /// The first `len` bytes of a file, read-only.
    pub(super) fn file(file: &File, len: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(len).map_raw_read_only(file)?))
    }

    /// The first byte; that of a file must not be written.
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

/// Anonymous memory, all of it on transparent huge pages; `None` where the kernel gives none.
fn transparent(len: usize) -> Option<MmapMut> {
    let map = MmapOptions::new().len(len).map_anon().ok()?;
    // Linux places mappings that could have huge pages so that they can, since 6.7.
    if !map.as_ptr().addr().is_multiple_of(HUGE_PAGE) {
        return None;
    }
    map.advise(Advice::HugePage).and_then(|()| map.advise(Advice::PopulateWrite)).ok()?;
    // The kernel takes ordinary pages where it has no huge one at hand, and tells nobody but here.
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    (huge_bytes_at(&smaps, map.as_ptr().addr())? >= len).then_some(map)
}

/// Bytes on transparent huge pages in the mapping that starts no later than `address` and ends after it:
/// `AnonHugePages` of proc_pid_smaps(5).
fn huge_bytes_at(smaps: &str, address: usize) -> Option<usize> {
    let within = |line: &&str| {
        let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        bounds
            .and_then(|(start, end)| Some(number(start)?..number(end)?))
            .is_some_and(|range| range.contains(&address))
    };
    let found = smaps.lines().skip_while(|line| !within(line));
    let kib = found.skip(1).find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    kib.trim().strip_suffix(" kB")?.parse().ok().map(|kib: usize| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_pages_are_those_of_the_mapping_asked_for() {
        let smaps = "7f00-8000 rw-p 00000000 00:00 0 \nSize: 4 kB\nAnonHugePages:      6144 kB\n\
                     8000-9000 rw-p 00000000 00:00 0 \nSize: 4 kB\nAnonHugePages:      2048 kB\n";
        assert_eq!(huge_bytes_at(smaps, 0x7fff), Some(6 << 20));
        assert_eq!(huge_bytes_at(smaps, 0x8000), Some(2 << 20));
        assert_eq!(huge_bytes_at(smaps, 0x9000), None);
        assert_eq!(huge_bytes_at("", 0), None);
    }
}
