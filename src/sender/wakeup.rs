//! How one thread wakes another that sleeps in poll(2), at no cost while it does not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes one thread, which sleeps in poll(2) on the descriptor of this.
#[derive(Debug)]
pub(super) struct WakeUp {
    event: EventFd,
    sleeping: AtomicBool,
    /// Wake-ups that were promised and have not been read: whoever wakes may be interrupted in between.
    owed: AtomicU64,
}

impl WakeUp {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, sleeping: AtomicBool::new(false), owed: AtomicU64::new(0) })
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
        let is_woken = !self.sleeping.swap(false, Ordering::SeqCst);
        let owed = self.owed.load(Ordering::Relaxed) + u64::from(is_woken);
        if owed > 0 {
            // What is not there yet ends the next sleep at once, and is read then: left alone, it would end all
            // that follow, too.
            let read = self.event.read().unwrap_or(0);
            self.owed.store(owed.saturating_sub(read), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn a_wake_up_that_comes_late_ends_one_sleep_and_no_other() {
        let wake_up = WakeUp::new().unwrap();
        let ends = || {
            let mut is_ended = false;
            wake_up.sleep_unless(
                || false,
                |event| {
                    let mut fds = [PollFd::new(event, PollFlags::POLLIN)];
                    is_ended = poll(&mut fds, PollTimeout::ZERO).unwrap() == 1;
                },
            );
            is_ended
        };
        for promised in 1..=3 {
            for _ in 0..promised {
                // Interrupted between its two steps, while the sleeper finds its work by itself.
                let promise = || wake_up.sleeping.swap(false, Ordering::SeqCst);
                wake_up.sleep_unless(promise, |_| panic!("there is work"));
            }
            for _ in 0..promised {
                assert!(!ends());
                wake_up.event.write(1).unwrap();
                assert!(ends());
            }
            assert!(!ends() && !ends());
        }
        wake_up.wake();
        assert!(!ends(), "nobody slept");
    }
}
