//! Network interfaces, as `doorbell devices` shows them.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use doorbell::backend::interface::Interface;
use doorbell::backend::udp::max_segments_through;
use doorbell::backend::verbs::device::RdmaDevice;
use serde::Serialize;

/// A network interface.
#[derive(Debug, Serialize)]
pub struct NetworkInterface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// `up`, `down` or what else the kernel says.
    pub state: String,
    pub speed_gbps: Option<f64>,
    pub driver: Option<String>,
    /// Packets that the kernel segments out of one message to it, 1 if it does not; null if it
    /// could not be asked, as when the interface is down.
    pub gso_segments: Option<u32>,
    /// The RDMA device that is its other face, and that one's port.
    pub rdma_device: Option<String>,
    pub rdma_port: Option<u8>,
}

impl NetworkInterface {
    /// Describes an interface.
    pub fn describe(interface: &Interface, devices: &[RdmaDevice]) -> Self {
        let directory = Path::new("/sys/class/net").join(&interface.name);
        let driver = fs::read_link(directory.join("device/driver"))
            .ok()
            .and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
        let behind = RdmaDevice::serving(devices, interface);
        Self {
            name: interface.name.clone(),
            addresses: interface.addresses.clone(),
            mtu: interface.mtu,
            state: state(&read(&directory, "operstate"), &read(&directory, "flags")),
            speed_gbps: speed(&read(&directory, "speed")),
            driver,
            gso_segments: max_segments_through(interface),
            rdma_device: behind.map(|(device, _)| device.name.clone()),
            rdma_port: behind.map(|(_, port)| port.number),
        }
    }

    /// The kernel module of the RDMA half of its NIC, if that is of a family with raw packets.
    pub fn rdma_module(&self) -> Option<&'static str> {
        match self.driver.as_deref()? {
            "mlx4_core" | "mlx4_en" => Some("mlx4_ib"),
            "mlx5_core" => Some("mlx5_ib"),
            _ => None,
        }
    }
}

fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default().trim().to_owned()
}

/// Loopback and tunnels have no carrier, and so are in state "unknown" (RFC 2863): then it counts
/// whether they were brought up.
fn state(operstate: &str, flags: &str) -> String {
    let flags = flags.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok());
    match (operstate, flags) {
        ("unknown" | "", Some(flags)) if flags & IFF_UP != 0 => "up".into(),
        ("unknown" | "", Some(_)) => "down".into(),
        ("", None) => "unknown".into(),
        (state, _) => state.into(),
    }
}

/// In Mb/s; the kernel says -1, or nothing, where there is none.
fn speed(text: &str) -> Option<f64> {
    let speed = text.parse::<f64>().ok()?;
    (speed > 0.0 && speed < f64::from(u32::MAX)).then_some(speed / 1000.0)
}

/// netdevice(7)
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_that_are_none_are_not_shown() {
        assert_eq!(speed("100000"), Some(100.0));
        assert_eq!(speed("2500"), Some(2.5));
        for none in ["-1", "0", "", "fast", "4294967295", "NaN", "inf"] {
            assert_eq!(speed(none), None, "{none}");
        }
    }

    #[test]
    fn an_interface_without_carrier_is_up_if_it_was_brought_up() {
        for (operstate, flags, shown) in [
            ("up", "0x1003", "up"),
            ("unknown", "0x9", "up"),
            ("unknown", "0x8", "down"),
            ("lowerlayerdown", "0x1003", "lowerlayerdown"),
            ("", "", "unknown"),
        ] {
            assert_eq!(state(operstate, flags), shown);
        }
    }
}
