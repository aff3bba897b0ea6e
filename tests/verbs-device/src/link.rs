//! Where the frames of a queue pair go.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::Adapter;
use crate::counters::Counter;
use crate::interface::Interface;
use crate::settings::DataPath;

/// A queue pair's way out.
pub(crate) enum Link {
    /// A packet socket (packet(7)), bound to the interface.
    Wire(OwnedFd),
    /// No way out, and nobody looks at the bytes.
    Nowhere,
    /// No way out, but the bytes are read: FNV-1a over all frames.
    Checksum(AtomicU64),
}

impl Link {
    pub(crate) fn open(adapter: &Adapter) -> io::Result<Self> {
        match adapter.path {
            DataPath::Wire => {
                let interface = Interface::query(&adapter.interface)?;
                packet_socket(interface.index).map(Self::Wire)
            }
            DataPath::Count { checksum: false } => Ok(Self::Nowhere),
            DataPath::Count { checksum: true } => Ok(Self::Checksum(AtomicU64::new(FNV_OFFSET))),
        }
    }

    /// Whether [`Self::transmit`] wants the bytes.
    pub(crate) fn reads(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// Sends a frame, or drops it where the port is down, as a NIC does.
    pub(crate) fn transmit(&self, adapter: &Adapter, frame: &[u8]) {
        let sent = match self {
            _ if adapter.port.is_forced_down() => false,
            Self::Wire(socket) => {
                let sent = send(socket, frame).is_ok();
                adapter.port.observe(sent, &adapter.events);
                sent
            }
            Self::Nowhere => true,
            Self::Checksum(hash) => {
                // One request of a queue is executed at a time.
                let sum = frame.iter().fold(hash.load(Ordering::Relaxed), |sum, byte| {
                    (sum ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
                });
                hash.store(sum, Ordering::Relaxed);
                adapter.counters.set(Counter::Checksum, sum.cast_signed());
                true
            }
        };
        adapter.counters.add(if sent { Counter::Frames } else { Counter::Dropped }, 1);
    }
}

/// The bytes of a piece of registered memory.
///
/// # Safety
///
/// They are mapped, and no Rust code relies on their not being read now. Somebody may be writing them:
/// that is the error the device exists to show, and a NIC would read whatever is there, too.
pub(crate) unsafe fn gather(frame: &mut Vec<u8>, address: *const u8, length: usize) {
    // SAFETY: the caller's.
    frame.extend_from_slice(unsafe { slice::from_raw_parts(address, length) });
}

fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // Protocol 0: it receives nothing.
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket returned it, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zero is a value of every field.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: an address of that length, which lives as long as the call.
    if unsafe { libc::bind(fd, (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    loop {
        // SAFETY: the frame lives as long as the call.
        let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // A NIC waits for its own wire.
            Some(libc::EINTR | libc::ENOBUFS | libc::EAGAIN) => std::thread::yield_now(),
            _ => return Err(error),
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
