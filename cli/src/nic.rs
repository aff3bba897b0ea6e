//! What the device that a stream leaves through says of itself, beside our own figures.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use doorbell::backend::interface::Interface;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use doorbell::stream::StreamPlan;

/// The device that a stream leaves through.
pub struct Nic {
    name: String,
    /// The counters of its port, if it is an RDMA device.
    port: Option<PathBuf>,
}

/// What a device counted. For all programs, and by the time that it is asked.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceCounters {
    /// Name of the interface, or of the RDMA device.
    name: String,
    /// Frames that were sent; of an interface that segments itself, whole messages may count as one.
    packets: u64,
    /// Bytes of them.
    bytes: u64,
    /// Frames that were dropped for want of room or of a link.
    dropped: u64,
    /// Frames that could not be sent for other reasons.
    errors: u64,
}

impl Nic {
    /// The device that a stream leaves through, if there is one and it counts.
    pub fn of(plan: &StreamPlan) -> Option<Self> {
        let nic = match plan.transport().rdma_port() {
            Some((device, port)) => {
                let counters = format!("{INFINIBAND}/{device}/ports/{port}/counters");
                Self { name: device.to_owned(), port: Some(counters.into()) }
            }
            None if plan.transport().backend() == "pcap" => return None,
            None => Self { name: interface(plan)?, port: None },
        };
        nic.counters().is_some().then_some(nic)
    }

    /// What it has counted so far.
    pub fn counters(&self) -> Option<DeviceCounters> {
        let [bytes, packets, errors, dropped] = match &self.port {
            Some(counters) => {
                let read = |name| fs::read_to_string(counters.join(name)).ok()?.trim().parse().ok();
                let read = |name| read(name).unwrap_or(0_u64);
                let bytes = read("port_xmit_data").wrapping_mul(LANES);
                let errors = read("port_xmit_constraint_errors");
                [bytes, read("port_xmit_packets"), errors, read("port_xmit_discards")]
            }
            None => sent(&fs::read_to_string(NET).ok()?, &self.name)?,
        };
        Some(DeviceCounters { name: self.name.clone(), packets, bytes, dropped, errors })
    }

    /// What it has counted since; `None` if it is gone.
    pub fn since(&self, before: &DeviceCounters) -> Option<DeviceCounters> {
        let now = self.counters()?;
        Some(DeviceCounters {
            packets: now.packets.wrapping_sub(before.packets),
            bytes: now.bytes.wrapping_sub(before.bytes),
            dropped: now.dropped.wrapping_sub(before.dropped),
            errors: now.errors.wrapping_sub(before.errors),
            name: now.name,
        })
    }
}

impl fmt::Display for DeviceCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent {} frames, {}, for all programs; {} dropped, {} errors",
            self.name,
            HumanCount(self.packets),
            HumanBytes(self.bytes),
            HumanCount(self.dropped),
            HumanCount(self.errors)
        )
    }
}

/// The interface that is named, or that of the route to the first destination.
fn interface(plan: &StreamPlan) -> Option<String> {
    if let Some(named) = &plan.settings().backend.interface {
        return Interface::find(&named.to_string()).ok().map(|it| it.name);
    }
    let to = plan.destinations().first()?;
    let any: IpAddr = match to.is_ipv4() {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    // To connect sends nothing, and binds to the address that the route prefers.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(to).ok()?;
    Interface::find(&socket.local_addr().ok()?.ip().to_string()).ok().map(|it| it.name)
}

/// Bytes, packets, errors and drops that /proc/net/dev has of what an interface sent: proc_pid_net(5).
fn sent(table: &str, interface: &str) -> Option<[u64; 4]> {
    let row = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let mut columns = row.split_whitespace().skip(RECEIVED).map_while(|it| it.parse().ok());
    Some([columns.next()?, columns.next()?, columns.next()?, columns.next()?])
}

/// Of the network namespace of this process, which /sys/class/net need not be.
const NET: &str = "/proc/self/net/dev";
/// Columns about what an interface received, which come first.
const RECEIVED: usize = 8;
const INFINIBAND: &str = "/sys/class/infiniband";
/// `port_xmit_data` is bytes over 4: `Documentation/ABI/stable/sysfs-class-infiniband` of Linux.
const LANES: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_what_was_sent() {
        let table = "Inter-|   Receive    |  Transmit\n face |bytes packets | bytes\n    \
                     lo: 1 2 3 4 5 6 7 8 90 100 110 120 13 14 15 16\n  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        assert_eq!(sent(table, "lo"), Some([90, 100, 110, 120]));
        assert_eq!(sent(table, "eth0"), Some([9, 10, 11, 12]));
        assert_eq!(sent(table, "eth"), None);
    }
}
