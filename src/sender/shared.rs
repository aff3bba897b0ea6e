//! What the thread that posts and the one that fills both look at.

use std::sync::atomic::{AtomicBool, Ordering};

use atomic_waker::AtomicWaker;

use super::stop::{Stop, Wish};
use super::wakeup::WakeUp;

/// What both threads look at.
pub(super) struct Shared {
    pub(super) wake_up: WakeUp,
    pub(super) waker: AtomicWaker,
    pub(super) stop: Stop,
    /// Whether nobody wants to know how it ends.
    pub(super) abandoned: AtomicBool,
    /// Whether the thread has ended.
    pub(super) ended: AtomicBool,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_raised()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    pub(super) fn wish(&self) -> Wish {
        self.stop.wish()
    }

    /// Ends the waits of both sides.
    pub(super) fn interrupt(&self) {
        self.wake_up.wake();
        self.waker.wake();
    }
}
