//! Standard input, or a FIFO, that ends when the program is interrupted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes as they come; a signal, which does not interrupt a read (`SA_RESTART` of sigaction(2)), ends them.
pub struct Pipe {
    file: File,
    interrupted: Arc<AtomicBool>,
}

impl Pipe {
    /// Standard input, without the buffer of [`std::io::Stdin`], until the flag is raised.
    pub fn stdin(interrupted: &Arc<AtomicBool>) -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, interrupted: interrupted.clone() })
    }

    /// A FIFO, whether anyone writes to it yet or not: fifo(7). Its end is when the last writer closes it.
    pub fn open(path: &Path, interrupted: &Arc<AtomicBool>) -> io::Result<Self> {
        // Without O_NONBLOCK a signal would not end the wait for the first writer.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        Ok(Self { file, interrupted: interrupted.clone() })
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(0);
            }
            // Before the first writer a FIFO reads as ended, but only after it is there a hang-up.
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK_AGAIN)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => match self.file.read(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                },
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Milliseconds: soon enough for who presses Ctrl-C.
const LOOK_AGAIN: u8 = 100;
