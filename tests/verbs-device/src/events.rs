//! A queue of events behind a file descriptor that is readable while it holds any.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// Events in the order in which they happened.
///
/// An eventfd counts them, so that the descriptor works with poll(2), and blocks or not as its owner
/// says by `O_NONBLOCK`. A queue beside it, unlike a pipe, lets go of the events of an object that is
/// destroyed.
pub(crate) struct Events<T> {
    count: OwnedFd,
    queue: Mutex<VecDeque<T>>,
}

impl<T> Events<T> {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_SEMAPHORE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd returned it, and nobody else has it.
        let count = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { count, queue: Mutex::default() })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.count.as_raw_fd()
    }

    pub(crate) fn push(&self, event: T) {
        self.queue.lock().unwrap().push_back(event);
        let one = 1_u64;
        // Adding one to a count that is far from overflow does not fail.
        // SAFETY: an eventfd takes 8 bytes.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// The next event, for which it waits unless the descriptor is non-blocking.
    pub(crate) fn take(&self) -> io::Result<T> {
        loop {
            self.count_down()?;
            // Another reader, or the end of an object, may have been faster.
            if let Some(event) = self.queue.lock().unwrap().pop_front() {
                return Ok(event);
            }
        }
    }

    /// Forgets events that nobody has taken.
    pub(crate) fn forget(&self, mut about: impl FnMut(&T) -> bool) {
        let mut queue = self.queue.lock().unwrap();
        let before = queue.len();
        queue.retain(|event| !about(event));
        for _ in queue.len()..before {
            let mut readable = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, which lives as long as the call.
            if unsafe { libc::poll(&raw mut readable, 1, 0) } == 1 {
                let _ = self.count_down();
            }
        }
    }

    fn count_down(&self) -> io::Result<()> {
        let mut count = 0_u64;
        // SAFETY: an eventfd gives 8 bytes.
        let read = unsafe { libc::read(self.fd(), (&raw mut count).cast(), size_of::<u64>()) };
        if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
