//! What of the address space is mapped, and how: the NIC's driver pins pages, which takes them to be
//! there.

use std::fs;
use std::ops::Range;

/// How a range of addresses is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mapping {
    /// In part or whole not, or not readable.
    Absent,
    ReadOnly,
    Writable,
}

impl Mapping {
    /// The least that holds for all of a range.
    pub(crate) fn of(range: Range<usize>) -> Self {
        fs::read_to_string("/proc/self/maps")
            .map_or(Self::Absent, |maps| Self::look_up(&maps, range))
    }

    fn look_up(maps: &str, range: Range<usize>) -> Self {
        let mut least = Self::Writable;
        let mut at = range.start;
        for (mapped, mapping) in maps.lines().filter_map(parse) {
            if at >= range.end || mapped.start > at {
                break;
            }
            if mapped.contains(&at) {
                least = least.min(mapping);
                at = mapped.end;
            }
        }
        if at < range.end { Self::Absent } else { least }
    }
}

/// A line of proc_pid_maps(5): `address-address perms ...`.
fn parse(line: &str) -> Option<(Range<usize>, Mapping)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let mapping = match rest.as_bytes() {
        [b'r', b'w', ..] => Mapping::Writable,
        [b'r', ..] => Mapping::ReadOnly,
        _ => Mapping::Absent,
    };
    Some((address(start)?..address(end)?, mapping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_adjacent_mappings_holds() {
        let maps = "1000-3000 rw-p 0 0\n3000-4000 r--p 0 0\n4000-5000 ---p 0 0\n6000-7000 rw-p 0\n";
        let look_up = |range| Mapping::look_up(maps, range);
        assert_eq!(look_up(0x1000..0x3000), Mapping::Writable);
        assert_eq!(look_up(0x2fff..0x3001), Mapping::ReadOnly);
        assert_eq!(look_up(0x3000..0x4001), Mapping::Absent);
        assert_eq!(look_up(0x4fff..0x6001), Mapping::Absent);
        assert_eq!(look_up(0x6000..0x7001), Mapping::Absent);
    }

    #[test]
    fn the_stack_is_writable_and_constants_are_not() {
        let local = [0_u8; 16];
        let range = |bytes: &[u8]| bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len();
        assert_eq!(Mapping::of(range(&local)), Mapping::Writable);
        assert_eq!(Mapping::of(range(b"constant")), Mapping::ReadOnly);
    }
}
