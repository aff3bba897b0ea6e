//! Pages of a mapped file that are gone: zeros in their place, in place of a SIGBUS.
//!
//! mmap(2): an access to a page of a mapping beyond the end of the file raises SIGBUS. Another process
//! may truncate a file at any time, so no look at its length before the access rules that out. System
//! calls answer EFAULT; here code in this process is answered with zeros, and a note of where they begin.

use super::sigbus;
use super::watched::Watched;

/// Watches over a mapping until it is dropped, which must be before the mapping is.
pub(super) struct Guard(&'static Watched);

impl Guard {
    /// Watches over `len` bytes from `start` on, the mapping of a file.
    pub(super) fn new(start: *const u8, len: usize) -> Self {
        sigbus::install();
        Self(Watched::new(start.addr()..start.addr() + len))
    }

    /// How many bytes from the start on were there whenever anyone looked.
    pub(super) fn intact(&self) -> usize {
        self.0.intact()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::super::watched::watched;
    use super::*;

    #[test]
    fn entries_are_used_again() {
        let entries = || watched().count();
        let page = [0_u8; 16];
        drop(Guard::new(page.as_ptr(), page.len()));
        // Others may add some meanwhile, but not as many.
        let before = entries();
        for _ in 0..100 {
            drop(Guard::new(page.as_ptr(), page.len()));
        }
        assert!(entries() < before + 100);
    }
}
