//! Bytes that somebody else may change while they are looked at.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

/// Some bytes of a mapping, such as a file's, that other processes may change at any time.
///
/// A `&[u8]` would promise that they stay what they are, which nobody can keep: a `&str` over them is no
/// longer UTF-8 a moment later. So whoever looks at them takes a copy, and whoever needs no such promise,
/// as the kernel and NICs, takes the pointer.
///
/// It is laid out as an iovec, which is what system calls take.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct MappedBytes<'a> {
    bytes: libc::iovec,
    memory: PhantomData<&'a ()>,
}

// SAFETY: its pointer is as good as a shared reference to the memory, which is `Sync`, and all that is
// done by it is to copy bytes out.
unsafe impl Send for MappedBytes<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for MappedBytes<'_> {}

impl<'a> MappedBytes<'a> {
    /// No bytes.
    pub(crate) const EMPTY: Self =
        Self { bytes: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }, memory: PhantomData };

    /// # Safety
    ///
    /// `len` bytes from `start` on can be read for as long as `'a`; should pages of them go away, the
    /// [`Guard`](super::guard::Guard) sees to it.
    pub(super) unsafe fn new(start: *const u8, len: usize) -> Self {
        let bytes = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len };
        Self { bytes, memory: PhantomData }
    }

    /// Bytes that stay what they are, to go with others that may not.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        // SAFETY: they are borrowed for that long.
        unsafe { Self::new(bytes.as_ptr(), bytes.len()) }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.bytes.iov_len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Where the first is.
    pub fn as_ptr(self) -> *const u8 {
        self.bytes.iov_base.cast_const().cast()
    }

    /// Some of them; `None` if there are fewer.
    pub fn get(self, range: Range<usize>) -> Option<Self> {
        let fits = range.start <= range.end && range.end <= self.len();
        // SAFETY: a part of bytes for which that was promised.
        fits.then(|| unsafe { Self::new(self.as_ptr().wrapping_add(range.start), range.len()) })
    }

    /// Copies bytes from `offset` on, as they are now. If there are fewer, it copies none, and returns
    /// false.
    #[must_use = "nothing is copied if there are too few"]
    pub fn copy_to(self, offset: usize, to: &mut [u8]) -> bool {
        let end = offset.checked_add(to.len());
        let Some(from) = end.and_then(|end| self.get(offset..end)) else { return false };
        // SAFETY: `from` can be read, see `new`, and `to` is borrowed mutably, so that they do not
        // overlap. No other thread of this program writes `from`: it is mapped read-only, or of a batch
        // that is borrowed. Another process may, by way of the file, and the kernel: each byte is then
        // an old or a new one, and `u8` may be either; `settle` has each be one and the same from here
        // on.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        settle(to);
        true
    }

    /// Has the processor fetch some of them, those that there are, to be copied soon. A copy of a block waits for
    /// memory all by itself; what is fetched meanwhile is there when its turn comes.
    #[inline]
    pub(crate) fn prefetch(self, range: Range<usize>) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for offset in (range.start..range.end.min(self.len())).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let place = self.as_ptr().wrapping_add(offset);
            // SAFETY: it reads nothing as far as the program can see, and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = range;
    }

    /// A copy of all of them in place of what is in `to`, which allocates nothing if it has room.
    pub(crate) fn read_into(self, to: &mut Vec<u8>) {
        to.resize(self.len(), 0);
        let all = self.copy_to(0, to);
        debug_assert!(all, "there is room for all");
    }

    /// A copy of all of them.
    pub fn to_vec(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes);
        bytes
    }

    /// Whether these are the same bytes as `others`, each looked at once.
    pub fn equals(self, others: &[u8]) -> bool {
        let mut block = [0; BLOCK];
        self.len() == others.len()
            && (0..).step_by(BLOCK).zip(others.chunks(BLOCK)).all(|(offset, others)| {
                let block = &mut block[..others.len()];
                self.copy_to(offset, block) && block == others
            })
    }
}

impl fmt::Debug for MappedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedBytes")
            .field("start", &self.as_ptr())
            .field("len", &self.len())
            .finish()
    }
}

/// Has the compiler take bytes that were copied for what they now are. It might otherwise take them for
/// the same as those they were copied from, and read those again.
fn settle(bytes: &mut [u8]) {
    // Miri knows no assembly, and reads nothing again.
    #[cfg(not(miri))]
    // SAFETY: no instruction. To the compiler, it may have written any values to the bytes.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) bytes.as_mut_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(miri)]
    let _ = bytes;
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
const CACHE_LINE: usize = 64;
/// Bytes compared at once, which stay in the first-level cache.
const BLOCK: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_those_of_the_whole(
            whole in 0..3 * BLOCK,
            start in 0..3 * BLOCK,
            len in 0..3 * BLOCK,
        ) {
            let bytes = bytes(whole);
            let mapped = MappedBytes::of(&bytes);
            prop_assert_eq!(mapped.to_vec(), &bytes[..]);
            let expected = bytes.get(start..start + len);
            let part = mapped.get(start..start + len).map(MappedBytes::to_vec);
            prop_assert_eq!(part.as_deref(), expected);
            let mut copy = vec![0xee; len];
            prop_assert_eq!(mapped.copy_to(start, &mut copy), expected.is_some());
            let untouched = vec![0xee; len];
            prop_assert_eq!(&copy[..], expected.unwrap_or(&untouched));
        }

        #[test]
        fn one_other_byte_makes_them_unequal(len in 1..3 * BLOCK, at: prop::sample::Index) {
            let bytes = bytes(len);
            let mapped = MappedBytes::of(&bytes);
            prop_assert!(mapped.equals(&bytes));
            prop_assert!(!mapped.equals(&bytes[1..]));
            let mut others = bytes.clone();
            others[at.index(len)] ^= 1;
            prop_assert!(!mapped.equals(&others));
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|byte| (byte % 251) as u8).collect()
    }

    #[test]
    fn what_is_out_of_bounds_is_not_there() {
        let mapped = MappedBytes::of(b"doorbell");
        assert!(!mapped.copy_to(usize::MAX, &mut [0; 2]));
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let backwards = 4..2;
        assert!(mapped.get(backwards).is_none());
        assert!(mapped.get(8..8).is_some_and(MappedBytes::is_empty));
        assert!(MappedBytes::EMPTY.is_empty() && MappedBytes::EMPTY.equals(&[]));
    }
}
