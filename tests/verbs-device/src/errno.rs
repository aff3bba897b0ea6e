//! The ways in which verbs tell failure. A third, returning the positive errno, needs no help.

use std::ffi::c_int;
use std::io;
use std::ptr;

/// Null, and errno.
pub(crate) fn null<T>(error: c_int) -> *mut T {
    set(error);
    ptr::null_mut()
}

/// -1, and errno.
pub(crate) fn minus_one(error: c_int) -> c_int {
    set(error);
    -1
}

/// The number of an error that came from the operating system.
pub(crate) fn of(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn set(error: c_int) {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = error };
}
