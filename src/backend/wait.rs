//! What a thread that posts waits for, and the one call that it waits in.
#![allow(
    unsafe_code,
    reason = "ppoll(2) takes a pointer, and no crate in use has it for a kept array"
)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use super::error::SendError;

/// What to wait for, as [`Backend::prepare_wait`](super::Backend::prepare_wait) collects it, and the wait
/// itself.
///
/// There is one wait for all that a thread waits for, so that whatever comes first ends it: room in a
/// socket, a completion, the time to try again, another thread that has work.
///
/// ```
/// use std::time::Duration;
///
/// use doorbell::backend::wait::Wait;
///
/// let (ours, theirs) = std::os::unix::net::UnixDatagram::pair()?;
/// let mut wait = Wait::new();
/// wait.descriptor(&ours, libc::POLLIN);
/// wait.at_most(Duration::from_secs(3600));
/// theirs.send(b"here")?;
/// wait.block(None, None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Wait {
    descriptors: Vec<libc::pollfd>,
    deadline: Option<Duration>,
    not_at_all: bool,
}

impl Wait {
    /// Waits for nothing yet.
    pub fn new() -> Self {
        Self {
            descriptors: Vec::with_capacity(USUAL_DESCRIPTORS),
            deadline: None,
            not_at_all: false,
        }
    }

    /// Ends the wait once one of `events` is true of a descriptor: `POLLIN`, `POLLOUT`, both, or 0 for
    /// those alone that are always reported, such as `POLLERR` (see poll(2)). It must stay open until
    /// the wait is over.
    pub fn descriptor(&mut self, fd: impl AsFd, events: i16) {
        let fd = fd.as_fd().as_raw_fd();
        self.descriptors.push(libc::pollfd { fd, events, revents: 0 });
    }

    /// Ends the wait after that time, unless another deadline is earlier.
    pub fn at_most(&mut self, limit: Duration) {
        self.deadline = Some(self.deadline.map_or(limit, |earlier| earlier.min(limit)));
    }

    /// Has the wait end at once: something is done, or may be.
    pub fn not_at_all(&mut self) {
        self.not_at_all = true;
    }

    /// Blocks until one of the events comes, the earliest deadline or `limit` is over, or `waker`, if
    /// given, is readable, which is how another thread ends the wait (eventfd(2)); it is not read. May
    /// return for no reason, as after a signal.
    ///
    /// Where nothing could end it, it returns at once; then all that was to be waited for is forgotten.
    ///
    /// # Errors
    ///
    /// If ppoll(2) fails, or a descriptor is closed, which is `EBADF`.
    pub fn block(
        &mut self,
        waker: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> Result<(), SendError> {
        if let Some(waker) = waker {
            self.descriptor(waker, libc::POLLIN);
        }
        if let Some(limit) = limit {
            self.at_most(limit);
        }
        let endless = self.descriptors.is_empty() && self.deadline.is_none();
        let ended = if mem::take(&mut self.not_at_all) || endless { Ok(()) } else { self.poll() };
        self.clear();
        ended
    }

    /// Forgets what was to be waited for.
    pub(crate) fn clear(&mut self) {
        self.descriptors.clear();
        self.deadline = None;
        self.not_at_all = false;
    }

    fn poll(&mut self) -> Result<(), SendError> {
        let failed = |errno| Err(SendError::Os { call: "ppoll", errno });
        let timeout = self.deadline.map(|deadline| libc::timespec {
            tv_sec: deadline.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: deadline.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let descriptors = &mut self.descriptors;
        // SAFETY: the array is as long as said; the time is null or valid for the call; there is no mask
        // of signals. What a number that is no longer open stands for is neither read nor written.
        let ready = unsafe {
            libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as _, timeout, ptr::null())
        };
        if ready < 0 {
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => Ok(()),
                errno => failed(errno.unwrap_or(0)),
            };
        }
        // It would end every further wait at once.
        match descriptors.iter().any(|it| it.revents & libc::POLLNVAL != 0) {
            true => failed(libc::EBADF),
            false => Ok(()),
        }
    }
}

/// One of a backend, and one to be woken by; connections to several destinations take more, once.
const USUAL_DESCRIPTORS: usize = 4;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;

    #[test]
    fn a_waker_ends_a_wait_without_end() {
        let waker = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let (deaf, _peer) = UnixDatagram::pair().unwrap();
        let (begins, begun) = sync_channel(0);
        thread::scope(|scope| {
            let (waker, deaf) = (&waker, &deaf);
            let waiting = scope.spawn(move || {
                let mut wait = Wait::new();
                wait.descriptor(deaf, libc::POLLIN);
                begins.send(()).unwrap();
                wait.block(Some(waker.as_fd()), None).unwrap();
                // Not before, and it is left to whoever waits.
                waker.read()
            });
            begun.recv().unwrap();
            thread::sleep(SHORT);
            waker.write(7).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(7));
        });
    }

    #[test]
    fn the_earliest_deadline_ends_it() {
        let mut wait = Wait::new();
        for (deadlines, limit) in [
            (&[HOUR, SHORT][..], None),
            (&[SHORT, HOUR], None),
            (&[], Some(SHORT)),
            (&[HOUR], Some(SHORT)),
            (&[SHORT], Some(HOUR)),
        ] {
            deadlines.iter().for_each(|&deadline| wait.at_most(deadline));
            wait.block(None, limit).unwrap();
        }
        wait.at_most(Duration::MAX);
        wait.not_at_all();
        wait.block(None, Some(Duration::MAX)).unwrap();
    }

    #[test]
    fn nothing_to_wait_for_is_no_wait() {
        let mut wait = Wait::new();
        wait.block(None, None).unwrap();
        // Nor is what was waited for before.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.send(b"here").unwrap();
        wait.descriptor(&ours, libc::POLLIN);
        wait.block(None, Some(HOUR)).unwrap();
        ours.recv(&mut [0; 8]).unwrap();
        wait.block(None, None).unwrap();
    }

    #[test]
    fn a_descriptor_that_is_closed_is_an_error() {
        let mut wait = Wait::new();
        wait.descriptor(UnixDatagram::unbound().unwrap(), libc::POLLIN);
        // Another test may have got the number since.
        let ended = wait.block(None, Some(SHORT));
        let expected = SendError::Os { call: "ppoll", errno: libc::EBADF };
        assert!(ended.is_ok() || ended == Err(expected), "{ended:?}");
    }

    const SHORT: Duration = Duration::from_millis(5);
    const HOUR: Duration = Duration::from_secs(3600);
}
