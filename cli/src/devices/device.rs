//! RDMA devices, as `doorbell devices` shows them.

use std::fmt;
use std::net::Ipv6Addr;

use doorbell::backend::verbs::device::{RawPackets, RdmaDevice, RdmaPort};
use serde::Serialize;

use super::guids::Guids;

/// An RDMA device.
#[derive(Debug, Serialize)]
pub struct Device {
    pub name: String,
    pub guid: String,
    pub pci: Option<String>,
    pub numa_node: Option<u32>,
    /// Null if the device cannot be opened.
    pub capabilities: Option<Capabilities>,
    /// Why it cannot be opened.
    pub error: Option<String>,
    pub ports: Vec<Port>,
}

/// What a device can do.
#[derive(Debug, Serialize)]
pub struct Capabilities {
    pub firmware: String,
    pub checksum_offload: bool,
    pub pacing_min_kbps: Option<u32>,
    pub pacing_max_kbps: Option<u32>,
    /// Packets that a queue holds if each is in one piece.
    pub queue_packed: u32,
    /// Packets that it holds if header and payload lie apart.
    pub queue_split: u32,
}

/// A port of a device.
#[derive(Debug, Serialize)]
pub struct Port {
    pub number: u8,
    pub state: String,
    pub link_layer: String,
    /// Bytes of payload of packets of RDMA; raw packets have the MTU of the interface.
    pub rdma_mtu: u32,
    pub speed_gbps: Option<f64>,
    pub gids: Vec<Ipv6Addr>,
    pub interfaces: Vec<String>,
    pub raw_packets: String,
}

impl Device {
    /// Describes a device, with what was found of raw packets on each port.
    pub fn describe(device: &RdmaDevice, raw_packets: &[RawPackets], guids: &Guids) -> Self {
        let capabilities = device.caps.as_ref().ok().map(|caps| Capabilities {
            firmware: caps.firmware.clone(),
            checksum_offload: caps.checksum_offload,
            pacing_min_kbps: caps.pacing_kbps.map(|(min, _)| min),
            pacing_max_kbps: caps.pacing_kbps.map(|(_, max)| max),
            queue_packed: caps.depth(1),
            queue_split: caps.depth(2),
        });
        Self {
            name: device.name.clone(),
            guid: guids.of_device(&device.name),
            pci: device.pci.clone(),
            numa_node: device.numa_node,
            capabilities,
            error: device.caps.as_ref().err().map(ToString::to_string),
            ports: device
                .ports
                .iter()
                .zip(raw_packets)
                .map(|(port, raw_packets)| Port::describe(port, raw_packets))
                .collect(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.name)?;
        let mut place: Vec<String> = self.pci.iter().map(|pci| format!("PCI {pci}")).collect();
        place.extend(self.numa_node.map(|node| format!("NUMA node {node}")));
        place.push(format!("GUID {}", self.guid));
        row(f, "at", &place.join(", "))?;
        match (&self.capabilities, &self.error) {
            (Some(capabilities), _) => capabilities.fmt(f)?,
            (None, error) => row(f, "error", error.as_deref().unwrap_or("unknown"))?,
        }
        self.ports.iter().try_for_each(|port| port.fmt(f))
    }
}

fn row(f: &mut fmt::Formatter<'_>, label: &str, value: &str) -> fmt::Result {
    writeln!(f, "    {label:<15}{value}")
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.firmware.is_empty() {
            row(f, "firmware", &self.firmware)?;
        }
        let who = if self.checksum_offload { "by the device" } else { "by this program" };
        row(f, "checksums", who)?;
        let pacing = match (self.pacing_min_kbps, self.pacing_max_kbps) {
            (Some(min), Some(max)) => format!("by the device, {} to {}", rate(min), rate(max)),
            _ => "by this program".into(),
        };
        row(f, "pacing", &pacing)?;
        let (packed, split) = (self.queue_packed, self.queue_split);
        let queue =
            format!("{packed} packets of one piece, {split} of two; larger batches go in parts");
        row(f, "queue", &queue)
    }
}

impl Port {
    fn describe(port: &RdmaPort, raw_packets: &RawPackets) -> Self {
        Self {
            number: port.number,
            state: port.state.to_string(),
            link_layer: port.link_layer.to_string(),
            rdma_mtu: port.mtu,
            speed_gbps: port.speed_gbps,
            gids: port.gids.clone(),
            interfaces: port.interfaces.clone(),
            raw_packets: match raw_packets {
                RawPackets::Permitted => "yes".into(),
                RawPackets::NotPermitted => "not permitted".into(),
                RawPackets::Unsupported => "not supported".into(),
                RawPackets::Refused(error) => format!("refused: {error}"),
                _ => "unknown".into(),
            },
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = format!("{}, {}", self.state, self.link_layer);
        link.extend(self.speed_gbps.map(|speed| format!(", {speed} Gb/s")));
        link.push_str(&format!(", RDMA MTU {}", self.rdma_mtu));
        row(f, &format!("port {}", self.number), &link)?;
        let interfaces = self.interfaces.join(", ");
        row(f, "  interface", if interfaces.is_empty() { "none here" } else { &interfaces })?;
        row(f, "  raw packets", &self.raw_packets)?;
        let labels = ["  GIDs"].into_iter().chain(std::iter::repeat(""));
        labels.zip(&self.gids).try_for_each(|(label, gid)| row(f, label, &gid.to_string()))
    }
}

/// A rate that is given in kb/s.
fn rate(kbps: u32) -> String {
    match kbps {
        kbps if kbps >= 1_000_000 => format!("{} Gb/s", f64::from(kbps) * 1e-6),
        kbps if kbps >= 1000 => format!("{} Mb/s", f64::from(kbps) * 1e-3),
        kbps => format!("{kbps} kb/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let shown = [1, 12_000, 2_500_000, 100_000_000].map(rate);
        assert_eq!(shown, ["1 kb/s", "12 Mb/s", "2.5 Gb/s", "100 Gb/s"]);
    }
}
