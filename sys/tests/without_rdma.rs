//! What verbs answer with whatever libibverbs this machine has, or none.

#![allow(unsafe_code, reason = "verbs are unsafe functions")]

use std::ffi::CStr;
use std::io;

use ibverbs_dl::{
    ibv_free_device_list, ibv_get_device_list, ibv_wc_status, ibv_wc_status_str, load,
};

#[test]
fn a_list_of_devices_or_a_reason() {
    let mut count = -1;
    // SAFETY: the count has room, and the list is freed once.
    unsafe {
        let list = ibv_get_device_list(&raw mut count);
        if list.is_null() {
            let error = io::Error::last_os_error().raw_os_error();
            assert!(matches!(error, Some(libc::ENOSYS | libc::EPERM)), "{error:?}");
        } else {
            assert!(count >= 0);
            ibv_free_device_list(list);
        }
    }
}

/// The library's own words where there is one, and a substitute where there is none.
#[test]
fn names_are_strings_either_way() {
    // SAFETY: any number is a status here, and names are never freed.
    let name = unsafe { CStr::from_ptr(ibv_wc_status_str(ibv_wc_status::IBV_WC_SUCCESS)) };
    assert_eq!(name, if load().is_ok() { c"success" } else { c"unknown (no libibverbs)" });
}
