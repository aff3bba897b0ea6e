//! The wish that a stream end, from any thread.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The wish that a stream end, raised from any thread; [`Stop::abort`] is more impatient. Clones raise the same.
///
/// It is a descriptor, too, which is readable once it is raised: whoever blocks in poll(2) on a pipe, say,
/// waits for both.
#[derive(Clone, Debug)]
pub struct Stop {
    state: Arc<State>,
}

struct State {
    /// A [`Wish`].
    wish: AtomicU8,
    event: EventFd,
    /// Pipelines that are to know, as long as they exist.
    listeners: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

/// What is wished for, from the least on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Wish {
    GoOn,
    Stop,
    Abort,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("wish", &self.wish).finish_non_exhaustive()
    }
}

impl Stop {
    /// One that is not raised.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left: eventfd(2).
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (wish, listeners) = (AtomicU8::new(Wish::GoOn as u8), Mutex::default());
        Ok(Self { state: Arc::new(State { wish, event, listeners }) })
    }

    /// Raises it. What is in flight goes on, for a while; nothing new is taken.
    ///
    /// Not for signal handlers, since it takes a lock: have a thread wait for the signal.
    pub fn raise(&self) {
        self.wish_for(Wish::Stop);
    }

    /// Raises it and gives up what was submitted and is not on the wire: those heaps failed. The stop heap still
    /// goes, at no rate, if the backend takes it within two seconds.
    ///
    /// Not for signal handlers, either.
    pub fn abort(&self) {
        self.wish_for(Wish::Abort);
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.wish() >= Wish::Stop
    }

    /// Whether what is not on the wire is given up.
    pub fn is_aborted(&self) -> bool {
        self.wish() == Wish::Abort
    }

    pub(super) fn wish(&self) -> Wish {
        match self.state.wish.load(Ordering::SeqCst) {
            0 => Wish::GoOn,
            1 => Wish::Stop,
            _ => Wish::Abort,
        }
    }

    fn wish_for(&self, wish: Wish) {
        if self.state.wish.fetch_max(wish as u8, Ordering::SeqCst) >= wish as u8 {
            return;
        }
        // The counter is at most 1, so this neither fails nor blocks.
        let _ = self.state.event.write(1);
        let listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener());
    }

    /// Has `listener` called when it is raised and when it is aborted, or now if it is already.
    pub(crate) fn tell(&self, listener: &Arc<dyn Fn() + Send + Sync>) {
        let mut listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|it| it.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
        drop(listeners);
        if self.is_raised() {
            listener();
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_readable(stop: &Stop) -> bool {
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn whoever_listens_is_told_once_of_each_wish() {
        let stop = Stop::new().unwrap();
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let listener: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        stop.tell(&listener);
        assert!(!stop.is_raised() && !is_readable(&stop));
        stop.clone().raise();
        stop.raise();
        assert!(stop.is_raised() && is_readable(&stop) && is_readable(&stop));
        assert_eq!(told.load(Ordering::SeqCst), 1);
        stop.tell(&listener);
        assert_eq!(told.load(Ordering::SeqCst), 2, "who comes late is told at once");
        assert!(!stop.is_aborted());
        stop.abort();
        stop.raise();
        stop.abort();
        assert!(stop.is_aborted() && stop.is_raised() && is_readable(&stop));
        // It listens twice.
        assert_eq!(told.load(Ordering::SeqCst), 4);
        drop(listener);
        assert_eq!(stop.state.listeners.lock().unwrap()[0].strong_count(), 0);
    }
}
