//! Standard output: what the program was asked to print, or the word that it could not be.
//!
//! A reader that has gone, as behind `| head`, has what it wanted. Anything else that keeps a line from being
//! written is a failure of the program's, which `println!` would make a panic of.

use std::fmt::Arguments;
use std::io;
use std::sync::OnceLock;

use clap::error::Error as ClapError;
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use super::standard_error::{self, write_all};

/// Prints a line.
pub fn line(text: Arguments<'_>) {
    print(format!("{text}\n").as_bytes());
}

/// Prints text as it is. After something that could not be printed nothing more is: a report with a gap is
/// worse than none.
pub fn print(text: &[u8]) {
    // On a terminal that shows both, what was said before is to stand before.
    standard_error::settle();
    if BROKEN.get().is_none()
        && let Err(errno) = write_all(io::stdout(), text)
    {
        let _ = BROKEN.set(errno);
    }
}

/// Prints help, or says on standard error which argument is wrong.
pub fn explain(error: &ClapError) {
    let text = error.render();
    let colourful = match error.use_stderr() {
        true => console::colors_enabled_stderr(),
        false => console::colors_enabled(),
    };
    let text = if colourful { text.ansi().to_string() } else { text.to_string() };
    match error.use_stderr() {
        true => standard_error::put(text.as_bytes()),
        false => print(text.as_bytes()),
    }
}

/// Why not all was printed, unless whoever reads has gone.
pub fn failure() -> Option<io::Error> {
    let errno = *BROKEN.get()?;
    let is_gone = match errno {
        Errno::EPIPE => true,
        // A terminal that was closed: tty_io.c of Linux. Disks fail so, too.
        Errno::EIO => fstat(io::stdout()).is_ok_and(|it| is_character_device(it.st_mode)),
        _ => false,
    };
    (!is_gone).then(|| errno.into())
}

fn is_character_device(mode: u32) -> bool {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFCHR
}

/// Why the first line that was not written was not.
static BROKEN: OnceLock<Errno> = OnceLock::new();
