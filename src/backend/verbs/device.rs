//! RDMA devices: which there are, and which network interface each belongs to.

mod port;
mod sysfs;
mod unavailable;

use std::io;

use ibverbs_dl as sys;

pub(super) use self::port::mtu;
pub use self::port::{LinkLayer, PortState, RdmaPort};
pub use self::unavailable::Unavailable;

use self::sysfs::Sysfs;
use super::DeviceCaps;
use super::context::Context;
use super::device_list::DeviceList;
use super::error::zero;
use super::queue::{QueueKind, QueuePair};
use crate::backend::interface::Interface;

/// An RDMA device.
#[derive(Debug)]
pub struct RdmaDevice {
    /// Name: `mlx5_0`.
    pub name: String,
    /// Address on the PCI bus, such as `0000:3b:00.0`, if it is on one.
    pub pci: Option<String>,
    /// NUMA node that it is attached to, if the kernel knows.
    pub numa_node: Option<u32>,
    /// What it can do, or why it cannot be opened.
    pub caps: io::Result<DeviceCaps>,
    /// Its ports, in order; none if it cannot be opened.
    pub ports: Vec<RdmaPort>,
}

/// Whether raw packets can be sent from a port.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawPackets {
    /// They can.
    Permitted,
    /// Not by this process: that takes `CAP_NET_RAW` (`capabilities(7)`).
    NotPermitted,
    /// The device or its driver has no raw packet queue pairs.
    Unsupported,
    /// The device refused a queue for another reason.
    Refused(io::Error),
}

impl RdmaDevice {
    /// All devices, in the order of libibverbs; at least one. One that cannot be opened is among
    /// them.
    ///
    /// # Errors
    ///
    /// If there are none, the error says why, and what to do.
    pub fn all() -> Result<Vec<Self>, Unavailable> {
        sys::load().map_err(|error| Unavailable::NoLibrary(error.to_string()))?;
        let sysfs = Sysfs::default();
        let list = DeviceList::query().map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => Unavailable::NoKernelSupport,
            _ => Unavailable::Os(error),
        })?;
        // Without them, no port is tied to any.
        let interfaces = Interface::all().unwrap_or_default();
        let described = list.iter().filter_map(|device| {
            Some(Self::describe(device.name()?.to_owned(), &sysfs, &interfaces))
        });
        let devices: Vec<Self> = described.collect();
        let known = sysfs.devices();
        match (devices.is_empty(), known.is_empty()) {
            (false, _) => Ok(devices),
            (true, false) => Err(Unavailable::NoProvider(known)),
            (true, true) => Err(Unavailable::NoDevice),
        }
    }

    fn describe(name: String, sysfs: &Sysfs, interfaces: &[Interface]) -> Self {
        let opened = Context::open(&name).and_then(|context| {
            let ports = (1..=ports(&context)?)
                .filter_map(|number| RdmaPort::query(&context, number))
                .collect();
            Ok((context.caps()?, ports))
        });
        let (caps, mut ports): (_, Vec<RdmaPort>) = match opened {
            Ok((caps, ports)) => (Ok(caps), ports),
            Err(error) => (Err(error), Vec::new()),
        };
        let only = ports.len() == 1;
        for port in &mut ports {
            let mut names = sysfs.interfaces(&name, port.number, only);
            // A device may be visible here whose interface is in another network namespace.
            names.retain(|name| interfaces.iter().any(|interface| interface.name == *name));
            if names.is_empty() {
                let matching = interfaces
                    .iter()
                    .filter(|it| port.has_address_of(it, sysfs.mac_address(&it.name)));
                names = matching.map(|interface| interface.name.clone()).collect();
            }
            port.interfaces = names;
        }
        let (pci, numa_node) = (sysfs.pci(&name), sysfs.numa_node(&name));
        Self { name, pci, numa_node, caps, ports }
    }

    /// The device and the port that an interface is the other face of; of several, one that is up.
    pub fn serving<'a>(
        devices: &'a [Self],
        interface: &Interface,
    ) -> Option<(&'a Self, &'a RdmaPort)> {
        devices
            .iter()
            .flat_map(|device| device.ports.iter().map(move |port| (device, port)))
            .filter(|(_, port)| port.serves(interface))
            // The first of those that are equal.
            .min_by_key(|(_, port)| !port.can_send())
    }

    /// The device with this name.
    pub fn named<'a>(devices: &'a [Self], name: &str) -> Option<&'a Self> {
        devices.iter().find(|device| device.name == name)
    }

    /// Whether raw packets can be sent from a port, found by making a queue and destroying it.
    pub fn raw_packets(&self, port: &RdmaPort) -> RawPackets {
        let made = Context::open(&self.name)
            .and_then(|context| QueuePair::new(&context, port.number, QueueKind::Raw, 1, 1));
        match made {
            Ok(_) => RawPackets::Permitted,
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM) => RawPackets::NotPermitted,
                // What drivers answer to a type of queue pair that they do not know.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => RawPackets::Unsupported,
                _ => RawPackets::Refused(error),
            },
        }
    }
}

/// Number of ports, which count from 1.
fn ports(context: &Context) -> io::Result<u8> {
    let mut attr = sys::ibv_device_attr::default();
    // SAFETY: the context is open, and `attr` is valid for the call.
    zero(unsafe { sys::ibv_query_device(context.as_ptr(), &mut attr) })?;
    Ok(attr.phys_port_cnt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u8, state: PortState, interfaces: &[&str]) -> RdmaPort {
        RdmaPort {
            number,
            state,
            link_layer: LinkLayer::Ethernet,
            mtu: 4096,
            speed_gbps: Some(100.0),
            gids: Vec::new(),
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn device(name: &str, ports: Vec<RdmaPort>) -> RdmaDevice {
        let caps = Ok(DeviceCaps::default());
        RdmaDevice { name: name.into(), pci: None, numa_node: None, caps, ports }
    }

    #[test]
    fn an_interface_is_served_by_the_port_that_is_up() {
        let devices = [
            device("a0", vec![port(1, PortState::Down, &["eth0"])]),
            device(
                "a1",
                vec![
                    port(1, PortState::Active, &["eth1"]),
                    port(2, PortState::Active, &["bond0", "eth0"]),
                ],
            ),
            device("a2", vec![port(1, PortState::Active, &["eth0"])]),
        ];
        let serving = |name: &str| {
            let interface = Interface { name: name.into(), ..Interface::find("lo").unwrap() };
            RdmaDevice::serving(&devices, &interface)
                .map(|(device, port)| (device.name.as_str(), port.number))
        };
        assert_eq!(serving("eth0"), Some(("a1", 2)));
        assert_eq!(serving("eth1"), Some(("a1", 1)));
        assert_eq!(serving("eth"), None);
        assert!(RdmaDevice::named(&devices, "a2").is_some());
        assert!(RdmaDevice::named(&devices, "a").is_none());
    }

    /// A machine of tests has no RDMA, or has: both are answers.
    #[test]
    fn this_machine_is_described_or_told_what_it_lacks() {
        match RdmaDevice::all() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(!error.remedy().is_empty(), "{error}"),
        }
    }
}
