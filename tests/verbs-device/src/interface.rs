//! The network interface that the device is the other face of.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// An interface as the kernel describes it now.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    pub(crate) running: bool,
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
}

impl Interface {
    pub(crate) fn query(name: &str) -> io::Result<Self> {
        let mut request = Request::new(name)?;
        let index = request.ask(libc::SIOCGIFINDEX)?;
        // SAFETY: the kernel has filled in the member that belongs to each request.
        let index = unsafe { index.ifr_ifru.ifru_ifindex };
        let mtu = request.ask(libc::SIOCGIFMTU)?;
        // SAFETY: as above.
        let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
        let flags = request.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: as above.
        let flags = c_int::from(unsafe { flags.ifr_ifru.ifru_flags });
        let hardware = request.ask(libc::SIOCGIFHWADDR)?;
        // SAFETY: as above.
        let hardware = unsafe { hardware.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(Self {
            index: index.cast_unsigned(),
            mtu: mtu.cast_unsigned(),
            running: flags & libc::IFF_RUNNING != 0 && flags & libc::IFF_UP != 0,
            mac: std::array::from_fn(|i| hardware[i].to_ne_bytes()[0]),
            addresses: addresses(name)?,
        })
    }

    /// The modified EUI-64 of the interface, which a RoCE device has for a GUID.
    pub(crate) fn eui64(&self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.mac;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The addresses of the GID table, in its order; each stands there twice, for RoCE v1 and v2.
    pub(crate) fn gids(&self) -> Vec<[u8; 16]> {
        let mut link_local = [0; 16];
        link_local[..2].copy_from_slice(&[0xfe, 0x80]);
        link_local[8..].copy_from_slice(&self.eui64());
        let mut gids = vec![link_local];
        for address in &self.addresses {
            let gid = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            if !gids.contains(&gid) {
                gids.push(gid);
            }
        }
        gids
    }
}

/// ioctls about one interface.
struct Request {
    socket: OwnedFd,
    name: CString,
}

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        if name.as_bytes().len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: socket returned it, and nobody else has it.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, name })
    }

    fn ask(&mut self, request: libc::Ioctl) -> io::Result<libc::ifreq> {
        // SAFETY: zero is a value of every field.
        let mut answer: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in answer.ifr_name.iter_mut().zip(self.name.as_bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: these requests read the name, and fill in the rest of an ifreq.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut answer) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(answer)
    }
}

fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut first = ptr::null_mut();
    // SAFETY: it fills in the head of a list.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: the list is linked by ifa_next and ends with null, names are terminated, and an address
    // that is not null has the type its family says.
    unsafe {
        while let Some(entry) = next.as_ref() {
            next = entry.ifa_next;
            if CStr::from_ptr(entry.ifa_name).to_bytes() != name.as_bytes() {
                continue;
            }
            let address = entry.ifa_addr;
            match address.as_ref().map(|address| c_int::from(address.sa_family)) {
                Some(libc::AF_INET) => {
                    let address = (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                    addresses.push(Ipv4Addr::from(address.to_ne_bytes()).into());
                }
                Some(libc::AF_INET6) => {
                    let address = (*address.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr;
                    addresses.push(Ipv6Addr::from(address).into());
                }
                _ => {}
            }
        }
        libc::freeifaddrs(first);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_described() {
        let loopback = Interface::query("lo").unwrap();
        assert!(loopback.index > 0 && loopback.mtu >= 1500, "{loopback:?}");
        assert_eq!(Interface::query("no-such-one").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn gids_are_those_of_roce() {
        let interface = Interface {
            index: 1,
            mtu: 1500,
            running: true,
            mac: [2, 0, 0, 0xa, 0xb, 0xc],
            addresses: vec!["10.1.2.3".parse().unwrap(), "fe80::ff:fe0a:b0c".parse().unwrap()],
        };
        let gids: Vec<_> =
            interface.gids().into_iter().map(|gid| Ipv6Addr::from(gid).to_string()).collect();
        assert_eq!(gids, ["fe80::ff:fe0a:b0c", "::ffff:10.1.2.3"]);
    }
}
