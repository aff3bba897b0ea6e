//! The list of devices, which holds one or none.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::OnceLock;

use ibverbs_dl::{IBV_NODE_CA, IBV_TRANSPORT_IB, ibv_device};

use crate::errno;
use crate::interface::Interface;
use crate::settings::{Presence, complain, settings};

/// The name of the device.
pub(crate) const NAME: &CStr = c"soft0";

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_get_device_list(count: *mut c_int) -> *mut *mut ibv_device {
    let Some(settings) = settings() else { return errno::null(libc::EINVAL) };
    let devices = match &settings.presence {
        Presence::NoKernel => return errno::null(libc::ENOSYS),
        Presence::Absent => vec![ptr::null_mut()],
        Presence::Present { interface, .. } => {
            if let Err(error) = Interface::query(interface) {
                complain(&format!("interface {interface}: {error}"));
                return errno::null(errno::of(&error));
            }
            vec![the_device(), ptr::null_mut()]
        }
    };
    // SAFETY: the caller's; null says that the count is not asked for.
    if let Some(count) = unsafe { count.as_mut() } {
        *count = if devices.len() == 2 { 1 } else { 0 };
    }
    // A list of one of two lengths is freed by the terminator it holds.
    Box::into_raw(devices.into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_free_device_list(list: *mut *mut ibv_device) {
    if list.is_null() {
        return;
    }
    // SAFETY: ibv_get_device_list made it, of one entry if that is null and else of two.
    drop(unsafe {
        let length = if (*list).is_null() { 1 } else { 2 };
        Box::from_raw(ptr::slice_from_raw_parts_mut(list, length))
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_get_device_name(device: *mut ibv_device) -> *const c_char {
    // SAFETY: the caller's; a pointer into what is never freed.
    unsafe { (&raw const (*device).name).cast() }
}

/// In network byte order.
#[unsafe(no_mangle)]
extern "C" fn ibv_get_device_guid(_: *mut ibv_device) -> u64 {
    interface().map_or(0, |interface| u64::from_ne_bytes(interface.eui64()))
}

#[unsafe(no_mangle)]
extern "C" fn ibv_get_device_index(_: *mut ibv_device) -> c_int {
    0
}

fn interface() -> Option<Interface> {
    match &settings()?.presence {
        Presence::Present { interface, .. } => Interface::query(interface).ok(),
        Presence::Absent | Presence::NoKernel => None,
    }
}

/// One for the life of the process, so that pointers to it outlive lists.
fn the_device() -> *mut ibv_device {
    struct Device(*mut ibv_device);
    // SAFETY: nothing writes it once it is made.
    unsafe impl Send for Device {}
    // SAFETY: as above.
    unsafe impl Sync for Device {}

    static DEVICE: OnceLock<Device> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let mut device = ibv_device {
            node_type: IBV_NODE_CA,
            transport_type: IBV_TRANSPORT_IB,
            ..ibv_device::default()
        };
        for (to, from) in device.name.iter_mut().zip(NAME.to_bytes()) {
            *to = from.cast_signed();
        }
        Device(Box::into_raw(Box::new(device)))
    });
    device.0
}
