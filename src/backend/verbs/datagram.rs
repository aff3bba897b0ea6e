//! Unreliable datagrams: messages from one queue to another.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ptr::NonNull;
use std::sync::Arc;

use ibverbs_dl as sys;

use super::config::{Datagrams, Flows, VerbsConfig};
use super::context::Context;
use super::device::{LinkLayer, RdmaDevice};
use super::error::{explain, non_null, zero};
use super::queue_address::QueueAddress;
use super::resolve::{VerbsRequest, locate};
use crate::backend::OpenError;
use crate::backend::interface::{Interface, is_link_local};
use crate::backend::neighbour::Path;
use crate::wire::MacAddress;

impl VerbsRequest {
    /// Finds the device, and the address on it to send from to each queue.
    pub(super) fn resolve_datagrams(
        &self,
        devices: &[RdmaDevice],
    ) -> Result<VerbsConfig, OpenError> {
        let to = self.queues[0];
        let interface = match (&self.interface, &self.device) {
            (Some(interface), _) => Some(interface.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(route(to.ip())?),
        };
        let (device, port) = locate(devices, self.device.as_deref(), interface.as_ref())?;
        let failed = |error| OpenError::new("query the port", &device, explain(error));
        let context = Context::open(&device).map_err(failed)?;
        let link = Link::query(&context, port).map_err(failed)?;
        let mut gid_indices = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            if link.layer == LinkLayer::InfiniBand && queue.lid == 0 {
                let lid = "in an InfiniBand subnet a queue has a LID, too: GID/QPN/QKEY/LID, as the \
                           receiver prints it; multicast groups, which the subnet manager numbers, \
                           are not supported there";
                return Err(OpenError::new("find the way", queue, lid));
            }
            let wanted = interface.as_ref().and_then(|it| it.source_address(queue.ip()));
            let found = link.source(queue.ip(), wanted).ok_or_else(|| {
                let none = format!("{device} has no address of that family to send from");
                OpenError::new("find the way", queue, none)
            })?;
            gid_indices.push(found.index);
        }
        let ip = if to.ip().is_ipv4() && link.layer == LinkLayer::Ethernet { 20 } else { 40 };
        let overhead = match link.layer {
            LinkLayer::InfiniBand => LOCAL_ROUTE + ip + TRANSPORT + VARIANT_CRC,
            _ => ETHERNET + ip + UDP + TRANSPORT,
        };
        let queues = self.queues.clone();
        Ok(VerbsConfig {
            device,
            port,
            flows: Flows::Datagrams(Datagrams { queues, gid_indices, ttl: self.ttl, overhead }),
            mtu: link.mtu,
            depth: u32::MAX,
            pieces: 1,
            completion: self.completion,
        })
    }
}

/// The interface that the kernel's route to a destination leads through.
fn route(to: IpAddr) -> Result<Interface, OpenError> {
    // The device asks for the neighbour by itself.
    let path = Path::with_destination_mac(to, None, MacAddress([0; 6])).map_err(|source| {
        let name = format!("{source}; or name the device to send from");
        OpenError::new("find the way", to, name)
    })?;
    Interface::find(&path.interface_name)
}

/// A port, as far as datagrams go.
pub(super) struct Link {
    pub(super) layer: LinkLayer,
    pub(super) lid: u16,
    /// Bytes of the longest message.
    pub(super) mtu: u32,
    gids: Vec<Gid>,
}

/// An entry of a port's table of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gid {
    pub(super) index: u8,
    pub(super) address: Ipv6Addr,
    /// Whether packets from it are UDP, which routers pass on.
    routable: bool,
}

impl Link {
    pub(super) fn query(context: &Context, port: u8) -> io::Result<Self> {
        let mut attr = sys::ibv_port_attr::default();
        // SAFETY: the context is open, and `attr` is valid for the call.
        zero(unsafe { sys::ibv_query_port(context.as_ptr(), port, &mut attr) })?;
        let gids = (0..=u8::MAX).take(attr.gid_tbl_len.max(0) as usize);
        Ok(Self {
            layer: LinkLayer::of(attr.link_layer),
            lid: attr.lid,
            mtu: super::device::mtu(attr.active_mtu),
            gids: gids.filter_map(|index| Gid::query(context, port, index)).collect(),
        })
    }

    /// The address to send from to `destination`: `wanted`, or of the same family and, where there
    /// is a choice, the same scope.
    pub(super) fn source(&self, destination: IpAddr, wanted: Option<IpAddr>) -> Option<Gid> {
        let family = |gid: &&Gid| {
            self.layer == LinkLayer::InfiniBand
                || gid.address.to_canonical().is_ipv4() == destination.is_ipv4()
        };
        self.gids.iter().filter(family).copied().min_by_key(|gid| {
            let ip = gid.address.to_canonical();
            let other_scope = is_link_local(ip) != is_link_local(destination);
            (wanted.is_some_and(|wanted| wanted != ip), other_scope, !gid.routable, gid.index)
        })
    }

    /// The address to be found at: `wanted`, or an IPv4 address, or what there is.
    pub(super) fn own(&self, wanted: Option<IpAddr>) -> Option<Gid> {
        self.gids.iter().copied().min_by_key(|gid| {
            let ip = gid.address.to_canonical();
            let other = wanted.is_some_and(|wanted| wanted != ip);
            (other, ip.is_ipv6(), gid.address.is_unicast_link_local(), gid.index)
        })
    }
}

impl Gid {
    fn query(context: &Context, port: u8, index: u8) -> Option<Self> {
        let mut entry = sys::ibv_gid_entry::default();
        let at = context.as_ptr();
        // SAFETY: the context is open, and `entry` is valid for the call.
        let typed = zero(unsafe {
            sys::ibv_query_gid_ex(at, u32::from(port), u32::from(index), &mut entry, 0)
        });
        if typed.is_err() {
            // Libraries before rdma-core 33, and kernels before 5.11, do not tell the type.
            // SAFETY: as above.
            zero(unsafe { sys::ibv_query_gid(at, port, index.into(), &mut entry.gid) }).ok()?;
        }
        // SAFETY: all views of a GID are of plain bytes.
        let address = Ipv6Addr::from(unsafe { entry.gid.raw });
        let routable = entry.gid_type == sys::IBV_GID_TYPE_ROCE_V2;
        (!address.is_unspecified()).then_some(Self { index, address, routable })
    }
}

/// The way to a port, as the device knows it.
pub(super) struct AddressHandle {
    handle: NonNull<sys::ibv_ah>,
    _context: Arc<Context>,
}

// SAFETY: verbs may be called from any thread; this one is used by its owner alone.
unsafe impl Send for AddressHandle {}

impl AddressHandle {
    /// Has the kernel find the way to each queue.
    pub(super) fn all(
        context: &Arc<Context>,
        port: u8,
        datagrams: &Datagrams,
    ) -> Result<Vec<Self>, OpenError> {
        let ways = datagrams.queues.iter().zip(&datagrams.gid_indices);
        ways.map(|(queue, &index)| {
            let default = if queue.ip().is_multicast() { 1 } else { 64 };
            let ttl = datagrams.ttl.unwrap_or(default);
            Self::new(context, port, queue, index, ttl)
                .map_err(|error| OpenError::new("find the way", queue, error))
        })
        .collect()
    }

    fn new(
        context: &Arc<Context>,
        port: u8,
        queue: &QueueAddress,
        gid_index: u8,
        ttl: u8,
    ) -> io::Result<Self> {
        let mut attr = sys::ibv_ah_attr {
            dlid: queue.lid,
            is_global: 1,
            port_num: port,
            ..sys::ibv_ah_attr::default()
        };
        attr.grh.dgid = sys::ibv_gid { raw: queue.gid.octets() };
        attr.grh.sgid_index = gid_index;
        attr.grh.hop_limit = ttl;
        // SAFETY: the domain is alive, and `attr` is valid for the call.
        let handle = non_null(unsafe { sys::ibv_create_ah(context.domain(), &mut attr) })?;
        // SAFETY: not null.
        let handle = unsafe { NonNull::new_unchecked(handle) };
        Ok(Self { handle, _context: context.clone() })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ibv_ah {
        self.handle.as_ptr()
    }
}

impl Drop for AddressHandle {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the queue pair that sent by it is gone.
        if let Err(error) = zero(unsafe { sys::ibv_destroy_ah(self.handle.as_ptr()) }) {
            tracing::warn!(%error, "an address handle could not be destroyed");
        }
    }
}

const ETHERNET: usize = 14;
const UDP: usize = 8;
/// Base and datagram transport headers, and the invariant check sum (InfiniBand Architecture, 9.2).
const TRANSPORT: usize = 12 + 8 + 4;
/// Local route header, of InfiniBand's link layer.
const LOCAL_ROUTE: usize = 8;
const VARIANT_CRC: usize = 2;
