//! What backends that send through sockets share, and whoever asks after sockets or receives by them.

mod charge;
mod destinations;
mod diagnosis;
mod group;
mod suspension;
mod sys;
mod zero_copy;

pub(crate) use self::charge::{charge, usable};
pub(super) use self::destinations::{destinations, source_address};
pub(crate) use self::diagnosis::Diagnosis;
pub(crate) use self::group::join;
pub(super) use self::suspension::Suspension;
pub use self::sys::arbitrary_notice;
pub(super) use self::sys::{
    ErrorQueue, Notice, Pinned, abort_connection, interface_mtu, option, send_pieces,
    set_multicast_interface, set_option, unacknowledged,
};
pub use self::zero_copy::ZeroCopy;
pub(super) use self::zero_copy::ZeroCopySends;

/// What the kernel takes in one call: messages of `sendmmsg(2)`, pieces of memory of `sendmsg(2)`.
pub(super) const MAX_PER_CALL: usize = libc::UIO_MAXIOV as usize;
