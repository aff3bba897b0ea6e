//! A queue that datagrams arrive in.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ibverbs_dl as sys;

use super::context::{AsyncEvent, Context};
use super::datagram::Link;
use super::device::{LinkLayer, RdmaDevice};
use super::error::{Failure, explain};
use super::memory::MemoryRegion;
use super::presence::Presence;
use super::queue::{QueueKind, QueuePair};
use super::queue_address::QueueAddress;
use super::resolve::locate;
use super::{NAME, failed};
use crate::backend::interface::Interface;
use crate::backend::socket::join;
use crate::backend::wait::Wait;
use crate::backend::{OpenError, SendError};
use crate::region::Memory;

/// Which datagrams to receive, and where.
#[derive(Clone, Debug, Default)]
pub struct DatagramRequest {
    /// Interface whose device it is, and whose address.
    pub interface: Option<Interface>,
    /// RDMA device; that of the interface unless given, or the only one.
    pub device: Option<String>,
    /// Key that messages must carry.
    pub key: u32,
    /// Multicast group to join.
    pub group: Option<IpAddr>,
    /// Memory for messages that wait to be looked at, in bytes; fewer where the device's queues are
    /// shorter.
    pub buffer: usize,
}

/// A queue that datagrams arrive in.
///
/// The device writes each to a buffer that was posted before; one that finds none is dropped, and
/// nobody is told.
pub struct DatagramReceiver {
    /// First, so that it is dropped first: from then on the device writes no memory.
    pair: QueuePair,
    address: QueueAddress,
    joined: Option<Joined>,
    device: String,
    context: Arc<Context>,
    presence: Presence,
    /// One for each buffer, with its index as identifier.
    requests: Vec<sys::ibv_recv_wr>,
    _pieces: Vec<sys::ibv_sge>,
    /// Bytes of one buffer.
    stride: usize,
    completions: Box<[sys::ibv_wc; COMPLETIONS]>,
    wait: Wait,
    _registered: MemoryRegion,
    memory: Arc<Memory>,
}

// SAFETY: the pointers of requests and pieces are to what the receiver itself owns.
unsafe impl Send for DatagramReceiver {}

/// A group that a queue is a member of.
struct Joined {
    group: QueueAddress,
    /// Has the kernel and the switches pass the group on (IGMP, MLD): a queue does not.
    _socket: UdpSocket,
}

impl DatagramReceiver {
    /// Makes a queue, and posts all its buffers.
    ///
    /// # Errors
    ///
    /// If there is no such device, its link is down, or memory cannot be registered; the error says
    /// which.
    pub fn open(request: &DatagramRequest) -> Result<Self, OpenError> {
        let name = request.device.as_deref().unwrap_or(NAME);
        let devices = RdmaDevice::all()
            .map_err(|source| OpenError::new("look for RDMA devices", name, source))?;
        let interface = request.interface.as_ref();
        let (device, port) = locate(&devices, request.device.as_deref(), interface)?;
        let step = |step| {
            let device = device.clone();
            move |error: io::Error| OpenError::new(step, device, explain(error))
        };
        let context = Context::open(&device).map_err(step("open the device"))?;
        let caps = context.caps().map_err(step("query the device"))?;
        if !context.port_is_active(port).map_err(step("query the port"))? {
            return Err(OpenError::new("query the port", &device, "the link is down"));
        }
        let link = Link::query(&context, port).map_err(step("query the port"))?;
        let family = request.group.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let wanted = interface.and_then(|it| it.found_by.or_else(|| it.source_address(family)));
        let own = link
            .own(wanted)
            .ok_or_else(|| OpenError::new("query the port", &device, "it has no address"))?;
        let stride = (ROUTE + link.mtu as usize).next_multiple_of(ALIGNMENT);
        let most = caps.depth(1).min(u32::from(u16::MAX));
        let depth = u32::try_from(request.buffer / stride).unwrap_or(u32::MAX).clamp(1, most);
        let kind = QueueKind::Receive { depth, key: request.key };
        let mut pair = QueuePair::new(&context, port, kind, 1, 1)
            .map_err(step("create a datagram queue pair"))?;
        let memory = Memory::anonymous(stride * depth as usize)
            .map_err(|source| OpenError::new("allocate buffers", &device, source))?;
        let memory = Arc::new(memory);
        let access = sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        // SAFETY: the memory owns its mapping, and is kept.
        let registered = unsafe {
            let (start, len) = (memory.as_ptr(), memory.len());
            MemoryRegion::register_with(&context, start, len, access, memory.clone())
        }
        .map_err(step("register memory"))?;
        let mut pieces: Vec<sys::ibv_sge> = (0..depth as usize)
            .map(|index| sys::ibv_sge {
                addr: memory.as_ptr().wrapping_add(index * stride) as u64,
                length: stride as u32,
                lkey: registered.key(),
            })
            .collect();
        let first = pieces.as_mut_ptr();
        let requests = (0..depth as usize)
            .map(|index| sys::ibv_recv_wr {
                wr_id: index as u64,
                next: ptr::null_mut(),
                sg_list: first.wrapping_add(index),
                num_sge: 1,
            })
            .collect();
        let number = pair.number();
        let joined = request
            .group
            .map(|group| Joined::join(&mut pair, group, interface, request.key))
            .transpose()
            .map_err(step("join the group"))?;
        let lid = if link.layer == LinkLayer::InfiniBand { link.lid } else { 0 };
        let mut receiver = Self {
            pair,
            address: QueueAddress { gid: own.address, number, key: request.key, lid },
            joined,
            device: device.clone(),
            presence: Presence::of(&context),
            context,
            requests,
            _pieces: pieces,
            stride,
            // SAFETY: plain data, for which zeros are valid.
            completions: Box::new(unsafe { mem::zeroed() }),
            wait: Wait::new(),
            _registered: registered,
            memory,
        };
        for index in 0..receiver.requests.len() {
            receiver.post(&[index]).map_err(step("post buffers"))?;
        }
        Ok(receiver)
    }

    /// Where messages are to be sent: the group's, if it has joined one.
    pub fn address(&self) -> QueueAddress {
        self.joined.as_ref().map_or(self.address, |joined| joined.group)
    }

    /// The name of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Bytes of the buffers.
    pub fn buffer(&self) -> usize {
        self.stride * self.requests.len()
    }

    /// Waits up to `patience` for messages, and shows some of those that are there to `take`. Returns
    /// how many.
    ///
    /// # Errors
    ///
    /// If the device is gone, or fails.
    pub fn receive(
        &mut self,
        patience: Duration,
        mut take: impl FnMut(&[u8]),
    ) -> Result<usize, SendError> {
        if self.presence.has_ended(Instant::now()) {
            return Err(Failure::DeviceGone.into());
        }
        let found = self.collect(&mut take)?;
        if found > 0 || patience.is_zero() {
            return Ok(found);
        }
        self.pair.completions.arm().map_err(failed("ibv_req_notify_cq"))?;
        // What came before the queue was armed wakes nobody.
        let found = self.collect(&mut take)?;
        if found > 0 {
            return Ok(found);
        }
        self.wait.descriptor(&self.pair.completions, libc::POLLIN);
        self.wait.block(None, Some(patience))?;
        let found = self.collect(&mut take)?;
        if found == 0 {
            self.check_device()?;
        }
        Ok(found)
    }

    fn collect(&mut self, take: &mut impl FnMut(&[u8])) -> Result<usize, SendError> {
        let found = self.pair.completions.poll(&mut self.completions[..]);
        let found = found.map_err(failed("ibv_poll_cq"))?.len();
        let mut used = [0; COMPLETIONS];
        for (used, completion) in used.iter_mut().zip(&self.completions[..found]) {
            let index = completion.wr_id as usize;
            *used = index;
            if completion.status != sys::ibv_wc_status::IBV_WC_SUCCESS {
                self.check_device()?;
                return Err(Failure::Status(completion.status).into());
            }
            // Room for the header of the route, whether there was one or not (ibv_post_recv(3)).
            let len = (completion.byte_len as usize).min(self.stride);
            if len > ROUTE {
                let start = self.memory.as_ptr().wrapping_add(index * self.stride + ROUTE);
                // SAFETY: within the buffer, which the device has written, and does not touch until it
                // is posted again, below.
                take(unsafe { slice::from_raw_parts(start, len - ROUTE) });
            }
        }
        if found > 0 {
            self.post(&used[..found]).map_err(failed("ibv_post_recv"))?;
        }
        Ok(found)
    }

    /// Posts buffers, all at once.
    fn post(&mut self, indices: &[usize]) -> io::Result<()> {
        let requests = self.requests.as_mut_ptr();
        let next = indices[1..].iter().map(|&next| requests.wrapping_add(next));
        for (&index, next) in indices.iter().zip(next.chain([ptr::null_mut()])) {
            assert!(index < self.requests.len());
            // SAFETY: one of the requests, which nobody else reads between posts.
            unsafe { (*requests.add(index)).next = next };
        }
        // SAFETY: the chain names buffers of registered memory, which nobody looks at before they come
        // back; the pair is destroyed before the memory is let go.
        unsafe { self.pair.post_receives(requests.wrapping_add(indices[0])) }
    }

    fn check_device(&self) -> Result<(), SendError> {
        while let Some(event) = self.context.async_event() {
            match event {
                AsyncEvent::DeviceGone => return Err(Failure::DeviceGone.into()),
                AsyncEvent::PortDown => tracing::error!("the link of {} is down", self.device),
                AsyncEvent::PortUp => tracing::warn!("the link of {} is up again", self.device),
                AsyncEvent::Other(event) => tracing::debug!(event, "asynchronous event"),
            }
        }
        Ok(())
    }
}

impl Drop for DatagramReceiver {
    fn drop(&mut self) {
        if let Some(Joined { group, .. }) = &self.joined
            && let Err(error) = self.pair.detach(group.gid, group.lid)
        {
            tracing::warn!(%error, "a group could not be left");
        }
    }
}

impl Joined {
    fn join(
        pair: &mut QueuePair,
        group: IpAddr,
        interface: Option<&Interface>,
        key: u32,
    ) -> io::Result<Self> {
        let (gid, any) = match group {
            IpAddr::V4(group) => (group.to_ipv6_mapped(), Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(group) => (group, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        join(&socket, group, interface)?;
        pair.attach(gid, 0)?;
        let group = QueueAddress { gid, number: QueueAddress::MULTICAST, key, lid: 0 };
        Ok(Self { group, _socket: socket })
    }
}

/// What precedes each message: a global route header, or what takes its place (`ibv_post_recv(3)`).
const ROUTE: usize = 40;
/// Buffers begin on cache lines.
const ALIGNMENT: usize = 64;
/// Completions taken off the queue at once.
const COMPLETIONS: usize = 64;
