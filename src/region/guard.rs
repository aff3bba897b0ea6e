//! Pages of a mapped file that are gone: zeros in their place, in place of a SIGBUS.
//!
//! mmap(2): an access to a page of a mapping beyond the end of the file raises SIGBUS. Another process
//! may truncate a file at any time, so no look at its length before the access rules that out. System
//! calls answer EFAULT; here code in this process is answered with zeros, and a note of where they begin.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::memory::page_size;

/// Watches over a mapping until it is dropped, which must be before the mapping is.
pub(super) struct Guard(&'static Watched);

/// A mapping that is watched over, or was. Never freed: the handler may look at it at any time.
struct Watched {
    in_use: AtomicBool,
    start: AtomicUsize,
    /// 0 while there is nothing to watch.
    end: AtomicUsize,
    /// The first byte that was found missing, counted from the start.
    missing: AtomicUsize,
    next: AtomicPtr<Watched>,
}

impl Guard {
    /// Watches over `len` bytes from `start` on, the mapping of a file.
    pub(super) fn new(start: *const u8, len: usize) -> Self {
        install();
        let guard = Self(free().unwrap_or_else(add));
        guard.0.missing.store(usize::MAX, Ordering::Relaxed);
        guard.0.start.store(start.addr(), Ordering::Relaxed);
        guard.0.end.store(start.addr() + len, Ordering::Release);
        guard
    }

    /// How many bytes from the start on were there whenever anyone looked.
    pub(super) fn intact(&self) -> usize {
        self.0.missing.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.in_use.store(false, Ordering::Release);
    }
}

fn watched() -> impl Iterator<Item = &'static Watched> {
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

/// Sets the handler up, once, and keeps the one that was there for faults that are none of ours.
fn install() {
    PREVIOUS.get_or_init(|| {
        PAGE.store(page_size(), Ordering::Relaxed);
        let mut previous = MaybeUninit::uninit();
        // SAFETY: `previous` has room for what is there, and is read only if it was written; the
        // handler has the type that SA_SIGINFO asks for, and calls but what signal-safety(7) allows.
        unsafe {
            if libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) != 0 {
                return None;
            }
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
            Some(previous.assume_init())
        }
    });
}

extern "C" fn on_sigbus(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, and for a SIGBUS of its own the address at fault.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code == libc::BUS_ADRERR && replace(address) {
        return;
    }
    // None of ours: the access is repeated, and meets the handler that was there before.
    if let Some(Some(previous)) = PREVIOUS.get() {
        // SAFETY: what sigaction(2) itself has returned.
        unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
    }
}

/// Maps zeros from the page of `address` to the end of the mapping it is in. False if it is in none.
fn replace(address: usize) -> bool {
    for watched in watched() {
        let end = watched.end.load(Ordering::Acquire);
        let start = watched.start.load(Ordering::Relaxed);
        if !(start..end).contains(&address) {
            continue;
        }
        let page = address & !(PAGE.load(Ordering::Relaxed) - 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the pages are of a mapping that is ours, read-only, and alive: it is being read.
        // Its bytes carry no invariant. mmap is a plain system call; it may change errno, which is
        // put back, since the signal came between any two instructions.
        let mapped = unsafe {
            let errno = *libc::__errno_location();
            let place = ptr::with_exposed_provenance_mut(page);
            let mapped = libc::mmap(place, end - page, libc::PROT_READ, flags, -1, 0);
            *libc::__errno_location() = errno;
            mapped
        };
        watched.missing.fetch_min(page.saturating_sub(start), Ordering::AcqRel);
        return mapped != libc::MAP_FAILED;
    }
    false
}

static FIRST: AtomicPtr<Watched> = AtomicPtr::new(ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(4096);
static PREVIOUS: OnceLock<Option<libc::sigaction>> = OnceLock::new();
