//! How far a receiver is, for a sender that must not outrun it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a receiver is. UDP drops what its socket has no room for; a sender in the same process
/// can wait instead.
#[derive(Debug, Default)]
pub struct Progress {
    packets: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Datagrams that were taken from the socket so far, whatever they were.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Says that nothing more is sent: the receiver ends when nothing arrives any more, even if the
    /// stop heaps do not.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, packets: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
    }
}
