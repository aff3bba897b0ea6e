//! What verbs answer when they fail, in the three ways they do.

use std::env;
use std::ffi::{CStr, c_int};
use std::io;

use ibverbs_dl as sys;
use thiserror::Error;

use super::config::NAME;
use crate::backend::SendError;

/// For verbs that return null and set errno: `ibv_open_device(3)`, `ibv_alloc_pd(3)`.
pub(super) fn non_null<T>(pointer: *mut T) -> io::Result<*mut T> {
    if pointer.is_null() { Err(io::Error::last_os_error()) } else { Ok(pointer) }
}

/// For verbs that return an errno: `ibv_modify_qp(3)`, `ibv_query_port(3)`. Some providers negate
/// it, and some return -1 with errno set.
pub(super) fn zero(answer: c_int) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        errno => Err(io::Error::from_raw_os_error(errno.abs())),
    }
}

/// Why packets did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Failure {
    /// What a work completion says, an `enum ibv_wc_status`.
    #[error("the device reports: {}", status_name(*.0).map_or_else(|| format!("status {}", .0), str::to_owned))]
    Status(u32),
    /// The link was down when they were posted, or went down before they were known to be sent.
    #[error("the link is down")]
    LinkDown,
    /// The device did nothing for seconds.
    #[error("the device sends nothing: is the link up?")]
    Stalled,
    /// The device was taken away, or is broken.
    #[error("the device is gone")]
    DeviceGone,
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        SendError::backend(NAME, failure.to_string())
    }
}

/// What a work completion's status means, in libibverbs' words (`ibv_wc_status_str(3)`).
fn status_name(status: u32) -> Option<&'static str> {
    // SAFETY: libibverbs answers any number with a string constant, sys with another one.
    let name = unsafe { sys::ibv_wc_status_str(status) };
    // SAFETY: a string constant; null is not expected, but is checked.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }).and_then(|name| name.to_str().ok())
}

/// What the user can do about an error.
pub(super) fn explain(error: io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            let program = env::current_exe().unwrap_or_else(|_| "doorbell".into());
            format!(": raw packets need CAP_NET_RAW: setcap cap_net_raw+ep {}", program.display())
        }
        Some(libc::ENOMEM) => ": is RLIMIT_MEMLOCK (ulimit -l) large enough for the plan?".into(),
        Some(libc::EOPNOTSUPP | libc::EINVAL) => {
            ": the device may have no raw packet queue pairs (`doorbell devices`): ConnectX NICs have, \
             rxe and siw have not; every device has those of ud, for backend.qp"
                .into()
        }
        Some(libc::ENOSYS) => ": the kernel has no RDMA (modprobe ib_uverbs)".into(),
        _ => String::new(),
    };
    format!("{error}{hint}")
}
