//! How far a receiver is, for a sender that must not outrun it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far a receiver is. UDP drops what its socket has no room for; a sender in the same process
/// can wait instead.
#[derive(Debug, Default)]
pub struct Progress {
    packets: AtomicU64,
    /// The number of packets that somebody waits for; 0 if nobody does.
    wanted: AtomicU64,
    stop: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Progress {
    /// Datagrams that were taken from the socket so far, whatever they were.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::SeqCst)
    }

    /// Blocks until this many datagrams were taken from the socket, and says whether they were
    /// within `limit`. Meant for one thread at a time.
    pub fn wait(&self, packets: u64, limit: Duration) -> bool {
        if self.packets() >= packets {
            return true;
        }
        let end = Instant::now() + limit;
        // The receiver adds, then looks whether that was wanted; here it is the other way round. In
        // the one order of all these accesses, one of the two sees what the other did.
        self.wanted.store(packets, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = loop {
            if self.packets() >= packets {
                break true;
            }
            let now = Instant::now();
            if now >= end {
                break false;
            }
            let waited = self.changed.wait_timeout(guard, end - now);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        self.wanted.store(0, Ordering::SeqCst);
        reached
    }

    /// Says that nothing more is sent: the receiver ends when nothing arrives any more, even if the
    /// stop heaps do not.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn add(&self, packets: u64) {
        let before = self.packets.fetch_add(packets, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if wanted != 0 && before + packets >= wanted {
            // Whoever waits either holds the lock until it sleeps, or has not looked yet.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_is_woken() {
        let progress = Arc::new(Progress::default());
        assert!(!progress.wait(1, Duration::ZERO));
        let receiver = thread::spawn({
            let progress = progress.clone();
            move || (0..100_000).for_each(|_| progress.add(1))
        });
        for packets in (1..=100_000).step_by(7) {
            assert!(progress.wait(packets, Duration::from_secs(60)));
            assert!(progress.packets() >= packets);
        }
        receiver.join().unwrap();
        assert!(progress.wait(100_000, Duration::ZERO));
    }
}
