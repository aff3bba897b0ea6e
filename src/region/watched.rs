//! The mappings that are watched over, as a handler of signals may look at them: without a lock.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

use crate::page::page_size;

/// A mapping that is watched over, or was. Never freed: the handler may look at it at any time.
pub(super) struct Watched {
    in_use: AtomicBool,
    /// How often start and end began or ended to change: odd while they do not belong together.
    changes: AtomicUsize,
    start: AtomicUsize,
    /// 0 while there is nothing to watch.
    end: AtomicUsize,
    /// The first byte that was found missing, counted from the start.
    missing: AtomicUsize,
    next: AtomicPtr<Watched>,
}

impl Watched {
    /// Has these addresses watched over.
    pub(super) fn new(addresses: Range<usize>) -> &'static Self {
        PAGE.store(page_size(), Ordering::Relaxed);
        let watched = free().unwrap_or_else(add);
        watched.missing.store(usize::MAX, Ordering::Relaxed);
        watched.set(addresses);
        watched
    }

    /// How many bytes from the start on were there whenever anyone looked.
    pub(super) fn intact(&self) -> usize {
        self.missing.load(Ordering::Acquire)
    }

    /// Ends it. Only whoever has it in use does.
    pub(super) fn release(&self) {
        self.set(0..0);
        self.in_use.store(false, Ordering::Release);
    }

    /// Says what is watched over. Only whoever has it in use does.
    fn set(&self, addresses: Range<usize>) {
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees a part of what follows sees that it began to change.
        fence(Ordering::Release);
        self.start.store(addresses.start, Ordering::Relaxed);
        self.end.store(addresses.end, Ordering::Relaxed);
        self.changes.store(changes.wrapping_add(2), Ordering::Release);
    }

    /// What is watched over; `None` while that changes. A mapping that is being read does not.
    fn addresses(&self) -> Option<Range<usize>> {
        let before = self.changes.load(Ordering::Acquire);
        let addresses = self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.changes.load(Ordering::Relaxed);
        (before == after && before.is_multiple_of(2)).then_some(addresses)
    }
}

pub(super) fn watched() -> impl Iterator<Item = &'static Watched> {
    let follow = |link: &AtomicPtr<Watched>| {
        // SAFETY: null, or what `add` has leaked.
        unsafe { link.load(Ordering::Acquire).as_ref() }
    };
    std::iter::successors(follow(&FIRST), move |watched| follow(&watched.next))
}

/// An entry that is no longer in use.
fn free() -> Option<&'static Watched> {
    watched().find(|watched| {
        watched.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    })
}

fn add() -> &'static Watched {
    let watched: &'static Watched = Box::leak(Box::new(Watched {
        in_use: AtomicBool::new(true),
        changes: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        missing: AtomicUsize::new(usize::MAX),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut first = FIRST.load(Ordering::Acquire);
    loop {
        watched.next.store(first, Ordering::Relaxed);
        let new = ptr::from_ref(watched).cast_mut();
        match FIRST.compare_exchange_weak(first, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return watched,
            Err(other) => first = other,
        }
    }
}

/// Maps zeros from the page of `address` to the end of the mapping it is in. False if it is in none.
///
/// For a handler of signals: it takes no lock, and allocates nothing. It may change errno.
pub(super) fn replace(address: usize) -> bool {
    for watched in watched() {
        let Some(Range { start, end }) =
            watched.addresses().filter(|addresses| addresses.contains(&address))
        else {
            continue;
        };
        let page = address & !(PAGE.load(Ordering::Relaxed) - 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the pages are of a mapping that is ours, read-only, and alive: it is being read.
        // Its bytes carry no invariant. mmap is a plain system call.
        let mapped = unsafe {
            let place = ptr::with_exposed_provenance_mut(page);
            libc::mmap(place, end - page, libc::PROT_READ, flags, -1, 0)
        };
        watched.missing.fetch_min(page.saturating_sub(start), Ordering::AcqRel);
        return mapped != libc::MAP_FAILED;
    }
    false
}

static FIRST: AtomicPtr<Watched> = AtomicPtr::new(ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(4096);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// An entry that is used again and again, as that of a program that maps one file after the other is.
    #[test]
    fn start_and_end_belong_together_whenever_they_are_read() {
        let watched = add();
        let of = |turn: usize| turn << 20..(turn << 20) + turn;
        let last = if cfg!(miri) { 100 } else { 200_000 };
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                loop {
                    let Some(addresses) = watched.addresses() else { continue };
                    assert_eq!(addresses, of(addresses.len()), "of two mappings");
                    seen += 1;
                    if addresses.len() == last {
                        return seen;
                    }
                }
            });
            (1..=last).for_each(|turn| watched.set(of(turn)));
            reader.join().unwrap()
        });
        assert!(seen > 0);
        watched.release();
    }
}
