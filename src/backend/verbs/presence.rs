//! Whether a device is still there.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::context::Context;

/// Looks now and then whether the kernel still has a device.
///
/// Most drivers say so by an event when it is taken away. Some, such as rxe, cannot take queues away that
/// are in use: the kernel takes the device off its list then, and waits for as long as somebody has it
/// open (`ib_uverbs_remove_one()` in Linux's drivers/infiniband/core/uverbs_main.c).
pub(super) struct Presence {
    /// Not there if the device never was on the list.
    entry: Option<PathBuf>,
    looked: Instant,
}

impl Presence {
    pub(super) fn of(context: &Context) -> Self {
        // SAFETY: an open context keeps its device, and its path is a terminated string.
        let path = unsafe { CStr::from_ptr((*(*context.as_ptr()).device).dev_path.as_ptr()) };
        let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
        Self { entry: path.exists().then(|| path.to_owned()), looked: Instant::now() }
    }

    /// Whether the device was taken off the list, as far as it is time to look.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        let Some(entry) = &self.entry else { return false };
        if now.saturating_duration_since(self.looked) < INTERVAL {
            return false;
        }
        self.looked = now;
        !entry.exists()
    }
}

/// Looking is a system call.
const INTERVAL: Duration = Duration::from_millis(500);
