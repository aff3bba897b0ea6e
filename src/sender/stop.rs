//! The wish that a stream end, from any thread.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The wish that a stream end, raised once, from any thread. Clones raise the same.
///
/// It is a descriptor, too, which is readable once it is raised: whoever blocks in poll(2) on a pipe, say,
/// waits for both.
#[derive(Clone, Debug)]
pub struct Stop {
    state: Arc<State>,
}

struct State {
    raised: AtomicBool,
    event: EventFd,
    /// Pipelines that are to know, as long as they exist.
    listeners: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("raised", &self.raised).finish_non_exhaustive()
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
        let (raised, listeners) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { state: Arc::new(State { raised, event, listeners }) })
    }

    /// Raises it. What is in flight goes on, for a while; nothing new is taken.
    ///
    /// Not for signal handlers, since it takes a lock: have a thread wait for the signal.
    pub fn raise(&self) {
        if self.state.raised.swap(true, Ordering::SeqCst) {
            return;
        }
        // The counter is 0, so this neither fails nor blocks.
        let _ = self.state.event.write(1);
        let listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener());
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.state.raised.load(Ordering::SeqCst)
    }

    /// Has `listener` called when it is raised, or now if it is already.
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
    fn whoever_listens_is_told_once() {
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
        drop(listener);
        assert_eq!(stop.state.listeners.lock().unwrap()[0].strong_count(), 0);
    }
}
