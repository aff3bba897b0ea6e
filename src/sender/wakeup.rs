//! How one thread wakes another that sleeps in poll(2), at no cost while it does not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes one thread, which sleeps in poll(2) on the descriptor of this.
#[derive(Debug)]
pub(super) struct WakeUp {
    event: EventFd,
    sleeping: AtomicBool,
}

impl WakeUp {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, sleeping: AtomicBool::new(false) })
    }

    /// Has the thread look for what this one has just done: a system call if it sleeps, else none.
    pub(super) fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // The counter is far from its end, so this neither fails nor blocks.
            let _ = self.event.write(1);
        }
    }

    /// Sleeps by `sleep`, unless `has_work` finds that there is something to do: whoever does something
    /// before that look is seen by it, and whoever does after it wakes the sleeper.
    pub(super) fn sleep_unless(
        &self,
        has_work: impl FnOnce() -> bool,
        sleep: impl FnOnce(BorrowedFd<'_>),
    ) {
        self.sleeping.store(true, Ordering::SeqCst);
        if !has_work() {
            sleep(self.event.as_fd());
        }
        if !self.sleeping.swap(false, Ordering::SeqCst) {
            // Somebody woke this thread, or is about to: then the next sleep ends at once.
            let _ = self.event.read();
        }
    }
}
