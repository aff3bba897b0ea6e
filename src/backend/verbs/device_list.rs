//! The devices that libibverbs knows.

use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ibverbs_dl as sys;

use super::error::non_null;

/// The devices that libibverbs knows, in its order. They stay listed, plugged in or not, until this is
/// dropped.
pub(super) struct DeviceList {
    first: NonNull<*mut sys::ibv_device>,
    count: usize,
}

impl DeviceList {
    /// Asks libibverbs; `ENOSYS` says that it, or RDMA in the kernel, is missing.
    pub(super) fn query() -> io::Result<Self> {
        let mut count = 0;
        // SAFETY: `count` is valid for the call.
        let first = non_null(unsafe { sys::ibv_get_device_list(&mut count) })?;
        Ok(Self {
            // SAFETY: not null.
            first: unsafe { NonNull::new_unchecked(first) },
            count: count.max(0) as usize,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ListedDevice<'_>> {
        (0..self.count).map(|index| ListedDevice {
            // SAFETY: the list has `count` devices, valid until it is freed.
            device: unsafe { *self.first.as_ptr().add(index) },
            list: PhantomData,
        })
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: freed once. An open context keeps its device (ibv_get_device_list(3)).
        unsafe { sys::ibv_free_device_list(self.first.as_ptr()) };
    }
}

/// A device that is not open.
pub(super) struct ListedDevice<'a> {
    device: *mut sys::ibv_device,
    list: PhantomData<&'a DeviceList>,
}

impl<'a> ListedDevice<'a> {
    /// Its name, such as `mlx5_0`; nothing if it is not UTF-8, as no name is that the kernel gives.
    pub(super) fn name(&self) -> Option<&'a str> {
        // SAFETY: a device of a list that is alive.
        let name = unsafe { sys::ibv_get_device_name(self.device) };
        // SAFETY: a string or null, valid as long as the list.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?.to_str().ok()
    }

    /// Opens it: a context, which whoever called closes.
    pub(super) fn open(&self) -> io::Result<NonNull<sys::ibv_context>> {
        // SAFETY: a device of a list that is alive.
        let context = non_null(unsafe { sys::ibv_open_device(self.device) })?;
        // SAFETY: not null.
        Ok(unsafe { NonNull::new_unchecked(context) })
    }
}
