//! Standard input that ends when the program is interrupted.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Standard input; a signal, which does not interrupt a read (`SA_RESTART` of sigaction(2)), ends it.
pub struct Stdin {
    file: File,
    interrupted: Arc<AtomicBool>,
}

impl Stdin {
    /// Standard input, without the buffer of [`std::io::Stdin`], until the flag is raised.
    pub fn until(interrupted: &Arc<AtomicBool>) -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, interrupted: interrupted.clone() })
    }
}

impl Read for Stdin {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(0);
            }
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK_AGAIN)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.file.read(bytes),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Milliseconds: soon enough for who presses Ctrl-C.
const LOOK_AGAIN: u8 = 100;
