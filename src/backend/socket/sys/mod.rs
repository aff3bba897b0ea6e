//! What Linux is told, and tells, through raw pointers.
#![allow(
    unsafe_code,
    reason = "arrays for C calls hold pointers, and socket options are C structures"
)]

mod error_queue;
mod options;
mod pieces;

use std::mem;
use std::ops::Range;
use std::ptr::NonNull;

pub use self::error_queue::arbitrary_notice;
pub(in crate::backend) use self::error_queue::{ErrorQueue, Notice};
pub(in crate::backend) use self::options::{
    abort_connection, interface_mtu, option, set_multicast_interface, set_option, unacknowledged,
};
pub(in crate::backend) use self::pieces::send_pieces;

/// An array that stays where it is. It is held by a raw pointer, since a `Box` that is moved
/// asserts that nothing else points into it.
pub(in crate::backend) struct Pinned<T>(NonNull<[T]>);

impl<T> Pinned<T> {
    /// An array of zeros.
    ///
    /// # Safety
    ///
    /// `T` is a C structure that may be all zeros: it is made of integers and raw pointers.
    pub(in crate::backend) unsafe fn zeroed(len: usize) -> Self {
        // SAFETY: the caller says that zeros are a `T`.
        let array: Box<[T]> = (0..len).map(|_| unsafe { mem::zeroed() }).collect();
        Self(NonNull::from(Box::leak(array)))
    }

    /// The start of a part of the array.
    pub(in crate::backend) fn at(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.0.len(),
            "{range:?} is out of bounds"
        );
        self.0.cast::<T>().as_ptr().wrapping_add(range.start)
    }

    pub(in crate::backend) fn set(&mut self, index: usize, value: T) {
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
