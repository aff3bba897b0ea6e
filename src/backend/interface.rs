//! Network interfaces: which there are, and what is known of each.

use std::fmt;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;
use thiserror::Error;

use super::OpenError;
use super::socket::interface_mtu;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name: `eth0`.
    pub name: String,
    /// The kernel's number for it, at least 1.
    pub index: u32,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// The address that it was found by, if so: the one to send from.
    pub found_by: Option<IpAddr>,
    /// Bytes of the largest IP packet that it carries, headers of IP and UDP included.
    pub mtu: u32,
}

impl Interface {
    /// The interface with this name, or this address: `eth0`, `10.1.0.7`, `fe80::1`, `fe80::1%eth0`.
    ///
    /// # Errors
    ///
    /// If there is none, the error lists those that there are.
    pub fn find(name_or_address: &str) -> Result<Self, OpenError> {
        let known = addresses().map_err(|source| OpenError::new(FIND, name_or_address, source))?;
        let (address, zone) = match name_or_address.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (name_or_address, None),
        };
        let wanted = address.parse::<IpAddr>().ok();
        let found = known.iter().find(|known| {
            known.name == name_or_address
                || wanted.is_some_and(|wanted| known.addresses.contains(&wanted))
                    && zone.is_none_or(|zone| known.name == zone)
        });
        match found.cloned() {
            Some(found) => found.describe(wanted),
            None => Err(OpenError::new(FIND, name_or_address, InterfaceError { known })),
        }
    }

    /// All interfaces, in the kernel's order.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub fn all() -> Result<Vec<Self>, OpenError> {
        addresses()
            .map_err(|source| OpenError::new("list the interfaces", "getifaddrs", source))?
            .into_iter()
            .map(|named| named.describe(None))
            .collect()
    }

    /// The address to send from to `destination`, if there is one of its family: the one that the
    /// interface was found by; else, where there is a choice, link-local only if that is too.
    pub fn source_address(&self, destination: IpAddr) -> Option<IpAddr> {
        let family = |it: &&IpAddr| it.is_ipv4() == destination.is_ipv4();
        let scope = |it: &&IpAddr| is_link_local(**it) == is_link_local(destination);
        let mut addresses = self.addresses.iter();
        (self.found_by.as_ref().filter(family))
            .or_else(|| addresses.clone().filter(family).find(scope))
            .or_else(|| addresses.find(family))
            .copied()
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_interface(f, &self.name, &self.addresses)
    }
}

/// There is no such interface.
#[derive(Debug, Error)]
#[error("no interface has this name or address; there are {}", Listed(.known))]
struct InterfaceError {
    known: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Named {
    fn describe(self, found_by: Option<IpAddr>) -> Result<Interface, OpenError> {
        let Self { name, addresses } = self;
        let index = if_nametoindex(name.as_str())
            .map_err(|source| OpenError::new("find the index of the interface", &name, source))?;
        let mtu = interface_mtu(&name)
            .map_err(|source| OpenError::new("find the MTU of the interface", &name, source))?;
        Ok(Interface { name, index, addresses, found_by, mtu })
    }
}

struct Listed<'a>(&'a [Named]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Named { name, addresses }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write_interface(f, name, addresses)?;
        }
        Ok(())
    }
}

/// `lo (127.0.0.1, ::1)`
fn write_interface(f: &mut fmt::Formatter<'_>, name: &str, addresses: &[IpAddr]) -> fmt::Result {
    f.write_str(name)?;
    for (index, address) in addresses.iter().enumerate() {
        write!(f, "{}{address}", if index == 0 { " (" } else { ", " })?;
    }
    f.write_str(if addresses.is_empty() { "" } else { ")" })
}

fn addresses() -> nix::Result<Vec<Named>> {
    let mut known: Vec<Named> = Vec::new();
    // getifaddrs(3) has an entry for each interface (AF_PACKET), and one for each address.
    for entry in getifaddrs()? {
        let address = entry.address.as_ref().and_then(ip_address);
        let named = match known.iter_mut().find(|known| known.name == entry.interface_name) {
            Some(named) => named,
            None => {
                known.push(Named { name: entry.interface_name, addresses: Vec::new() });
                known.last_mut().expect("just pushed")
            }
        };
        named.addresses.extend(address);
    }
    Ok(known)
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Whether an address has a meaning on one link only: RFC 4291, 2.5.6, and for multicast 2.7.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.segments()[0] & 0xff0f == 0xff02
        }
    }
}

const FIND: &str = "find the interface";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn loopback_is_found_by_name_and_by_address() {
        let by_name = Interface::find("lo").unwrap();
        assert!(by_name.addresses.contains(&Ipv4Addr::LOCALHOST.into()));
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap();
        assert_eq!(by_name.mtu, mtu.trim().parse::<u32>().unwrap());
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        assert_eq!(by_name.index, index.trim().parse::<u32>().unwrap());
        let by_address = Interface::find("127.0.0.1").unwrap();
        assert_eq!(by_address.found_by, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(Interface { found_by: None, ..by_address }, by_name);
        assert!(Interface::all().unwrap().contains(&by_name));
    }

    #[test]
    fn an_unknown_interface_is_named_and_the_known_ones_listed() {
        for unknown in ["eth9x", "192.0.2.1", "", "no such name, and far too long for one"] {
            let error = Interface::find(unknown).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{FIND} ({unknown}): no interface")), "{error}");
            assert!(error.contains("lo (127.0.0.1"), "{error}");
        }
    }

    #[test]
    fn the_source_address_has_the_scope_of_the_destination() {
        let addresses = ["fe80::1", "2001:db8::1", "10.0.0.1"].map(|it| it.parse().unwrap());
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            addresses: addresses.into(),
            found_by: None,
            mtu: 1500,
        };
        let source = |to: &str| interface.source_address(to.parse().unwrap()).unwrap().to_string();
        assert_eq!(source("fe80::2"), "fe80::1");
        assert_eq!(source("ff02::5"), "fe80::1");
        assert_eq!(source("ff15::5"), "2001:db8::1");
        assert_eq!(source("2001:db8::2"), "2001:db8::1");
        assert_eq!(source("239.1.2.3"), "10.0.0.1");
        let named = Interface { found_by: Some(addresses[0]), ..interface.clone() };
        assert_eq!(named.source_address("ff15::5".parse().unwrap()), Some(addresses[0]));
        assert_eq!(named.source_address("239.1.2.3".parse().unwrap()), Some(addresses[2]));
        assert_eq!(interface.to_string(), "eth0 (fe80::1, 2001:db8::1, 10.0.0.1)");
    }
}
