//! Verbs of queue pairs other than raw packet ones, which this device has not.

use std::ffi::c_int;

use ibverbs_dl::{
    ibv_ah, ibv_ah_attr, ibv_context, ibv_cq, ibv_gid, ibv_pd, ibv_qp, ibv_srq, ibv_srq_init_attr,
};

use crate::errno;

#[unsafe(no_mangle)]
extern "C" fn ibv_create_ah(_: *mut ibv_pd, _: *mut ibv_ah_attr) -> *mut ibv_ah {
    errno::null(libc::EOPNOTSUPP)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_destroy_ah(_: *mut ibv_ah) -> c_int {
    libc::EOPNOTSUPP
}

#[unsafe(no_mangle)]
extern "C" fn ibv_create_srq(_: *mut ibv_pd, _: *mut ibv_srq_init_attr) -> *mut ibv_srq {
    errno::null(libc::EOPNOTSUPP)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_destroy_srq(_: *mut ibv_srq) -> c_int {
    libc::EOPNOTSUPP
}

#[unsafe(no_mangle)]
extern "C" fn ibv_resize_cq(_: *mut ibv_cq, _: c_int) -> c_int {
    libc::EOPNOTSUPP
}

#[unsafe(no_mangle)]
extern "C" fn ibv_attach_mcast(_: *mut ibv_qp, _: *const ibv_gid, _: u16) -> c_int {
    libc::EOPNOTSUPP
}

#[unsafe(no_mangle)]
extern "C" fn ibv_detach_mcast(_: *mut ibv_qp, _: *const ibv_gid, _: u16) -> c_int {
    libc::EOPNOTSUPP
}

#[unsafe(no_mangle)]
extern "C" fn ibv_query_pkey(_: *mut ibv_context, _: u8, _: c_int, _: *mut u16) -> c_int {
    errno::minus_one(libc::EOPNOTSUPP)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_get_pkey_index(_: *mut ibv_context, _: u8, _: u16) -> c_int {
    errno::minus_one(libc::EOPNOTSUPP)
}

/// There is no memory that the kernel would have to keep from a child.
#[unsafe(no_mangle)]
extern "C" fn ibv_fork_init() -> c_int {
    0
}
