//! Files that the program is told to write.

use std::path::Path;

use doorbell::output::{Output, OutputError};
use nix::sys::signal::{SigSet, Signal};
use thiserror::Error;

/// Why a file that a flag names cannot be written.
#[derive(Debug, Error)]
pub enum Unwritable {
    /// It exists.
    #[error("{flag} {path}: {reason}: name another, or give --force as well")]
    Exists { flag: &'static str, path: String, reason: OutputError },
    /// Its name is that of something else.
    #[error("{flag} {path}: what is written is .{suffixes}: give it a name that ends so")]
    Suffix { flag: &'static str, path: String, suffixes: String },
    /// The kernel says why.
    #[error("{flag} {path}: {reason}")]
    Refused { flag: &'static str, path: String, reason: OutputError },
}

/// Where a flag has something written; a file that exists is kept unless `force` says otherwise. Creates nothing.
pub fn output(
    flag: &'static str,
    path: &Path,
    suffixes: &'static [&'static str],
    force: bool,
) -> Result<Output, Unwritable> {
    let name = || path.display().to_string();
    let output = Output::new(path, force).map_err(|reason| unwritable(flag, path, reason))?;
    match output.is_named(suffixes) {
        true => Ok(output),
        false => Err(Unwritable::Suffix { flag, path: name(), suffixes: suffixes.join(" or .") }),
    }
}

/// What is wrong with the path that a flag names.
pub fn unwritable(flag: &'static str, path: &Path, reason: impl Into<OutputError>) -> Unwritable {
    let (path, reason) = (path.display().to_string(), reason.into());
    match reason {
        OutputError::Exists => Unwritable::Exists { flag, path, reason },
        _ => Unwritable::Refused { flag, path, reason },
    }
}

/// Has a file that grows beyond RLIMIT_FSIZE be an error of write(2), as on a full disk, rather than the end of
/// the program: setrlimit(2). For the first thread, before there are others, which inherit it.
pub fn outlive_file_limit() {
    let mut exceeded = SigSet::empty();
    exceeded.add(Signal::SIGXFSZ);
    // It fails for no set that there is: pthread_sigmask(3).
    let _ = exceeded.thread_block();
}
