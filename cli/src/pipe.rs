//! Standard input, or a FIFO, that ends when the stream is to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use doorbell::sender::Stop;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::source::Live;

/// Bytes as they come; a [`Stop`] ends them, since no signal interrupts a read: a thread waits for those.
pub struct Pipe {
    file: File,
    stop: Stop,
}

impl Pipe {
    /// Standard input, without the buffer of [`std::io::Stdin`].
    pub fn stdin(stop: &Stop) -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, stop: stop.clone() })
    }

    /// A FIFO, whether anyone writes to it yet or not: fifo(7). Its end is when the last writer closes it.
    pub fn open(path: &Path, stop: &Stop) -> io::Result<Self> {
        // Without O_NONBLOCK a signal would not end the wait for the first writer.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        Ok(Self { file, stop: stop.clone() })
    }

    /// Waits for bytes, or their end, or the stop. Before the first writer a FIFO reads as ended, but only
    /// after it is there a hang-up.
    fn wait(&self, limit: PollTimeout) -> io::Result<bool> {
        let fd = |it, events| PollFd::new(it, events);
        let mut fds =
            [fd(self.file.as_fd(), PollFlags::POLLIN), fd(self.stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let is_ready = self.wait(PollTimeout::NONE)?;
            if self.stop.is_raised() {
                return Ok(0);
            }
            if !is_ready {
                continue;
            }
            match self.file.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

impl Live for Pipe {
    fn has_bytes(&self) -> bool {
        self.wait(PollTimeout::ZERO).unwrap_or(true)
    }
}
