//! An opened device, and its protection domain.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ibverbs_dl as sys;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::device_list::DeviceList;
use super::error::{non_null, zero};

/// A device that is open, with a protection domain. Shared by all that is made on it, and closed
/// after the last of that.
pub(super) struct Context {
    context: NonNull<sys::ibv_context>,
    domain: NonNull<sys::ibv_pd>,
}

// SAFETY: verbs may be called from any thread (ibv_open_device(3)); those that change the context or
// the domain are called here by `open` and `drop` alone.
unsafe impl Send for Context {}
// SAFETY: as for Send.
unsafe impl Sync for Context {}

/// Something that happened to a device as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsyncEvent {
    /// The link went down: frames are dropped, and their work requests succeed all the same.
    PortDown,
    /// The link is up again.
    PortUp,
    /// The device is unusable from now on.
    DeviceGone,
    /// Something else: `enum ibv_event_type`.
    Other(u32),
}

/// What a device can do, as far as sending goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceCaps {
    /// Work requests that a queue can hold.
    pub max_qp_wr: u32,
    /// Completions that a queue can hold.
    pub max_cqe: u32,
    /// Whether raw packet queue pairs fill in IP and UDP checksums.
    pub checksum_offload: bool,
    /// Rates that raw packet queue pairs can keep to, in kb/s, if any.
    pub pacing_kbps: Option<(u32, u32)>,
    /// The firmware's version.
    pub firmware: String,
}

impl DeviceCaps {
    /// Work requests of this many pieces that fit the device's longest queue.
    ///
    /// mlx5 takes one 64-byte block for a request of one piece and two for up to five, counts blocks
    /// in powers of two, and refuses more than `max_qp_wr` (rdma-core, providers/mlx5).
    pub fn depth(&self, pieces: u32) -> u32 {
        self.depth_in_blocks(if pieces <= 1 { 1 } else { 2 })
    }

    /// Work requests of datagrams that fit it. They take two blocks at least: they carry an address of 48 bytes.
    pub(super) fn datagram_depth(&self) -> u32 {
        self.depth_in_blocks(2)
    }

    fn depth_in_blocks(&self, blocks: u32) -> u32 {
        let longest = self.max_qp_wr.max(1);
        let power = 1 << longest.ilog2();
        (power / blocks).min(self.max_cqe.max(1)).max(1)
    }
}

impl Context {
    /// Opens a device by its name, such as `mlx5_0`.
    pub(super) fn open(name: &str) -> io::Result<Arc<Self>> {
        let context = DeviceList::query()?
            .iter()
            .find(|device| device.name() == Some(name))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such device"))?
            .open()?;
        // SAFETY: the context is open, and so is its file descriptor.
        let events = unsafe { BorrowedFd::borrow_raw(context.as_ref().async_fd) };
        // ibv_get_async_event(3) blocks unless this says that it does not.
        if let Err(errno) = fcntl(events, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
            // SAFETY: opened above, and nothing was made on it.
            unsafe { sys::ibv_close_device(context.as_ptr()) };
            return Err(errno.into());
        }
        // SAFETY: the context is open.
        match non_null(unsafe { sys::ibv_alloc_pd(context.as_ptr()) }) {
            Ok(domain) => Ok(Arc::new(Self {
                context,
                // SAFETY: not null.
                domain: unsafe { NonNull::new_unchecked(domain) },
            })),
            Err(error) => {
                // SAFETY: opened above, and nothing was made on it.
                unsafe { sys::ibv_close_device(context.as_ptr()) };
                Err(error)
            }
        }
    }

    /// Something that happened to the device as a whole, if anything did. Does not block.
    pub(super) fn async_event(&self) -> Option<AsyncEvent> {
        // SAFETY: plain data, for which zeros are valid.
        let mut event: sys::ibv_async_event = unsafe { mem::zeroed() };
        // SAFETY: the context is open, its file descriptor does not block, `event` is valid.
        zero(unsafe { sys::ibv_get_async_event(self.as_ptr(), &mut event) }).ok()?;
        let kind = event.event_type;
        // SAFETY: an event that was got, acknowledged once.
        unsafe { sys::ibv_ack_async_event(&mut event) };
        Some(match kind {
            sys::IBV_EVENT_PORT_ERR => AsyncEvent::PortDown,
            sys::IBV_EVENT_PORT_ACTIVE => AsyncEvent::PortUp,
            sys::IBV_EVENT_DEVICE_FATAL => AsyncEvent::DeviceGone,
            other => AsyncEvent::Other(other),
        })
    }

    /// Whether a port can send.
    pub(super) fn port_is_active(&self, port: u8) -> io::Result<bool> {
        // SAFETY: plain data, for which zeros are valid.
        let mut attr: sys::ibv_port_attr = unsafe { mem::zeroed() };
        // SAFETY: the context is open, `attr` is valid for the call.
        zero(unsafe { sys::ibv_query_port(self.as_ptr(), port, &mut attr) })?;
        Ok(attr.state == sys::ibv_port_state::IBV_PORT_ACTIVE)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ibv_context {
        self.context.as_ptr()
    }

    pub(super) fn domain(&self) -> *mut sys::ibv_pd {
        self.domain.as_ptr()
    }

    /// What the device can do.
    pub(super) fn caps(&self) -> io::Result<DeviceCaps> {
        // SAFETY: plain data, for which zeros are valid.
        let mut attr: sys::ibv_device_attr_ex = unsafe { mem::zeroed() };
        // SAFETY: the context is open, and `attr` is valid for the call.
        let extended =
            zero(unsafe { sys::ibv_query_device_ex(self.as_ptr(), ptr::null(), &mut attr) });
        if extended.is_err() {
            // Providers without the extended query have none of the extended capabilities.
            // SAFETY: as above.
            zero(unsafe { sys::ibv_query_device(self.as_ptr(), &mut attr.orig_attr) })?;
        }
        let pacing = &attr.packet_pacing_caps;
        let raw_packets = 1 << sys::ibv_qp_type::IBV_QPT_RAW_PACKET;
        let paces = pacing.qp_rate_limit_max > 0 && pacing.supported_qpts & raw_packets != 0;
        let firmware = attr.orig_attr.fw_ver.map(|char| char as u8);
        Ok(DeviceCaps {
            max_qp_wr: attr.orig_attr.max_qp_wr.max(0) as u32,
            max_cqe: attr.orig_attr.max_cqe.max(0) as u32,
            checksum_offload: attr.raw_packet_caps & sys::IBV_RAW_PACKET_CAP_IP_CSUM != 0,
            pacing_kbps: paces.then_some((pacing.qp_rate_limit_min, pacing.qp_rate_limit_max)),
            firmware: CStr::from_bytes_until_nul(&firmware)
                .map_or_else(|_| String::new(), |version| version.to_string_lossy().into_owned()),
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: whatever was made on the domain holds the `Arc` around this, and so is gone.
        let freed = zero(unsafe { sys::ibv_dealloc_pd(self.domain()) })
            // SAFETY: nothing is left of it but the context.
            .and_then(|()| zero(unsafe { sys::ibv_close_device(self.as_ptr()) }));
        if let Err(error) = freed {
            tracing::warn!(%error, "a device could not be closed");
        }
    }
}
