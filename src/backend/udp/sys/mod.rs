//! What Linux is told, and tells, through raw pointers.
#![allow(unsafe_code, reason = "message arrays hold pointers, and the calls that read them are C")]

mod error_queue;
mod messages;
mod options;
mod pieces;

use std::mem;
use std::ops::Range;
use std::ptr::NonNull;

pub(in crate::backend) use self::error_queue::{ErrorQueue, Notice};
pub(super) use self::messages::{Messages, Singles, send_unsendable};
pub(in crate::backend) use self::options::{
    abort_connection, interface_mtu, set_option, unacknowledged,
};
pub(super) use self::options::{option, set_multicast_interface};
pub(in crate::backend) use self::pieces::send_pieces;

/// An array that stays where it is. It is held by a raw pointer, since a `Box` that is moved
/// asserts that nothing else points into it.
struct Pinned<T>(NonNull<[T]>);

impl<T> Pinned<T> {
    /// An array of zeros: for plain C structures.
    fn zeroed(len: usize) -> Self {
        // SAFETY: private to these files, where `T` is made of integers and pointers.
        let array: Box<[T]> = (0..len).map(|_| unsafe { mem::zeroed() }).collect();
        Self(NonNull::from(Box::leak(array)))
    }

    /// The start of a part of the array.
    fn at(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.0.len(),
            "{range:?} is out of bounds"
        );
        self.0.cast::<T>().as_ptr().wrapping_add(range.start)
    }

    fn set(&mut self, index: usize, value: T) {
        // SAFETY: in bounds, and `&mut self` makes it the only access.
        unsafe { self.at(index..index + 1).write(value) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: it comes from `Box::leak`, and no pointer into it is used any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
