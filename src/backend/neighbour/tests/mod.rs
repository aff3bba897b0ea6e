//! Against the kernel, from one of two hosts on a link.

mod network;
mod replies;

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::{Path, ResolveError};
use crate::wire::MacAddress;
use network::{FAR, NEAR, Network, ip};

fn index_of(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

fn resolve(destination: &str, interface: Option<&str>) -> Result<Path, ResolveError> {
    Path::resolve(destination.parse().unwrap(), interface.map(index_of), LIMIT)
}

/// Looks at the tables only.
fn look(destination: &str, interface: Option<&str>) -> Result<Path, ResolveError> {
    Path::resolve(destination.parse().unwrap(), interface.map(index_of), Duration::ZERO)
}

fn mac(text: &str) -> MacAddress {
    text.parse().unwrap()
}

/// The path through `near`.
fn path(source: &str, destination_mac: &str) -> Path {
    Path {
        interface_index: index_of("near"),
        interface_name: "near".into(),
        source: source.parse().unwrap(),
        source_mac: mac(NEAR),
        destination_mac: mac(destination_mac),
        mtu: 1500,
    }
}

/// From whom empty datagrams have come to the far host's discard port, which is at `address`. Waits
/// for the first.
fn empty_datagrams(discard: &UdpSocket, address: IpAddr) -> Vec<IpAddr> {
    discard.set_read_timeout(Some(LIMIT)).unwrap();
    let next = || {
        let (length, from) = discard.recv_from(&mut [0; 3]).unwrap();
        (length == 0).then(|| from.ip().to_canonical())
    };
    let first = next();
    let any = SocketAddr::new([0; 16].into(), 0);
    UdpSocket::bind(any).unwrap().send_to(b"end", (address, DISCARD)).unwrap();
    first.into_iter().chain(std::iter::from_fn(next)).collect()
}

#[test]
fn a_neighbour_that_is_not_known_is_asked_once() {
    Network::run(|network| {
        // One for all, as its port is not free at once: for a moment, children have it open too.
        let discard = network.on_far(|| UdpSocket::bind(("::", DISCARD))).unwrap();
        for (source, destination) in [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2"),
            ("192.0.2.1", "::ffff:192.0.2.2"),
        ] {
            ip("neigh flush dev near");
            let address: IpAddr = destination.parse().unwrap();

            let error = look(destination, None).unwrap_err();
            assert!(matches!(error, ResolveError::NoNeighbour { .. }), "{error}");
            assert_eq!(ip("neigh show dev near"), "", "nobody was to be asked");

            assert_eq!(resolve(destination, None).unwrap(), path(source, FAR));
            assert_eq!(empty_datagrams(&discard, address), [source.parse::<IpAddr>().unwrap()]);

            assert_eq!(look(destination, None).unwrap(), path(source, FAR));
        }
    });
}

#[test]
fn a_link_local_address_takes_an_interface() {
    Network::run(|_| {
        assert_eq!(resolve("fe80::2", Some("near")).unwrap(), path("fe80::1", FAR));
        let group = look("ff02::4242", Some("near")).unwrap();
        assert_eq!(group, path("fe80::1", "33:33:00:00:42:42"));
    });
    // Needs no network.
    for destination in ["fe80::2", "ff02::4242", "ff12::1"] {
        let error = look(destination, None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{destination} is a link-local address")), "{error}");
        assert!(error.contains("name the interface"), "{error}");
    }
}

#[test]
fn beyond_a_gateway_the_gateway_is_the_neighbour() {
    Network::run(|_| {
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        ip("route add 2001:db8:1::/64 via fe80::2 dev near");
        ip("route add 203.0.113.0/24 via inet6 fe80::2 dev near");
        for (destination, source) in [
            ("198.51.100.9", "192.0.2.1"),
            ("2001:db8:1::9", "2001:db8::1"),
            ("203.0.113.9", "192.0.2.1"),
        ] {
            for interface in [None, Some("near")] {
                ip("neigh flush dev near");
                assert_eq!(resolve(destination, interface).unwrap(), path(source, FAR));
                let known = ip("neigh show dev near");
                assert!(!known.contains(destination), "{known}");
            }
        }
        ip("route add 198.51.100.128/25 via 192.0.2.66");
        let error = look("198.51.100.129", None).unwrap_err().to_string();
        assert!(
            error.contains("for 192.0.2.66 on near, the next hop to 198.51.100.129"),
            "{error}"
        );
    });
}

#[test]
fn the_source_address_and_the_mtu_are_the_routes() {
    Network::run(|_| {
        ip("route add 198.51.100.0/24 via 192.0.2.2 src 192.0.2.7 mtu 1400");
        let expected = Path { mtu: 1400, ..path("192.0.2.7", FAR) };
        assert_eq!(resolve("198.51.100.9", None).unwrap(), expected);
        // The interface's bounds the route's.
        ip("link set near mtu 1300");
        let expected = Path { mtu: 1300, ..path("192.0.2.7", FAR) };
        assert_eq!(resolve("198.51.100.9", None).unwrap(), expected);
    });
}

#[test]
fn addresses_count_in_each_state_in_which_the_kernel_sends() {
    Network::run(|_| {
        for network in ["192.0.2.", "2001:db8::"] {
            let source = format!("{network}1");
            let states = ["permanent", "noarp", "reachable", "stale", "delay", "probe"];
            for (host, state) in (50..).zip(states) {
                let (neighbour, mac) =
                    (format!("{network}{host}"), format!("02:00:00:00:00:{host}"));
                ip(&format!("neigh add {neighbour} lladdr {mac} dev near nud {state}"));
                assert_eq!(look(&neighbour, None).unwrap(), path(&source, &mac), "{state}");
            }
            let failed = format!("{network}70");
            ip(&format!("neigh add {failed} dev near nud failed"));
            let error = look(&failed, None).unwrap_err();
            assert!(matches!(error, ResolveError::NoNeighbour { .. }), "{error}");
        }
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_named_with_what_to_do() {
    Network::run(|_| {
        for destination in ["192.0.2.99", "2001:db8::99"] {
            let limit = Duration::from_millis(20);
            let address = destination.parse().unwrap();
            let error = Path::resolve(address, None, limit).unwrap_err();
            assert!(matches!(error, ResolveError::NoNeighbour { .. }), "{error}");
            let error = error.to_string();
            for part in [
                &*format!("no hardware address is known for {destination} on near"),
                "within 20ms",
                &*format!("`ip neigh show {destination} dev near`"),
                "give the address that frames are to go to",
            ] {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
            assert!(ip("neigh show dev near").contains(destination), "it was not asked");

            let given = mac("02:00:00:00:00:99");
            let path = Path::with_destination_mac(address, None, given).unwrap();
            assert_eq!((path.destination_mac, path.source_mac), (given, mac(NEAR)));
        }
    });
}

#[test]
fn a_neighbour_that_is_being_asked_is_not_asked_again() {
    Network::run(|network| {
        // One for all, as its port is not free at once: for a moment, children have it open too.
        let discard = network.on_far(|| UdpSocket::bind(("::", DISCARD))).unwrap();
        for (family, source, destination) in
            [("ipv4", "192.0.2.1", "192.0.2.3/24"), ("ipv6", "2001:db8::1", "2001:db8::3/64")]
        {
            let settings = format!("/proc/sys/net/{family}/neigh/near");
            fs::write(format!("{settings}/retrans_time_ms"), "200").unwrap();
            let address = destination.split('/').next().unwrap().parse().unwrap();
            thread::scope(|scope| {
                let resolving = scope.spawn(move || Path::resolve(address, None, LIMIT));
                while !ip("neigh show dev near nud incomplete").contains(&address.to_string()) {
                    assert!(!resolving.is_finished(), "it resolved what does not exist");
                }
                // Time to look at the entry, again and again, before the kernel's second question.
                thread::sleep(Duration::from_millis(50));
                network.on_far(|| network::add_address(destination, "far"));
                resolving.join().unwrap().unwrap();
            });
            // The kernel has kept what it was to send.
            assert_eq!(empty_datagrams(&discard, address), [source.parse::<IpAddr>().unwrap()]);
        }
    });
}

#[test]
fn a_neighbour_that_failed_is_asked_again() {
    Network::run(|network| {
        for (family, destination, prefix) in
            [("ipv4", "192.0.2.3", "24"), ("ipv6", "2001:db8::3", "64")]
        {
            // One question, and 10 ms for the answer.
            let settings = format!("/proc/sys/net/{family}/neigh/near");
            fs::write(format!("{settings}/mcast_solicit"), "1").unwrap();
            fs::write(format!("{settings}/retrans_time_ms"), "10").unwrap();
            let address = destination.parse().unwrap();
            thread::scope(|scope| {
                // The thread is born in this one's namespace.
                let resolving = scope.spawn(move || Path::resolve(address, None, LIMIT));
                while !ip("neigh show dev near nud failed").contains(destination) {
                    assert!(!resolving.is_finished(), "it resolved what does not exist");
                }
                network.on_far(|| network::add_address(&format!("{destination}/{prefix}"), "far"));
                assert_eq!(resolving.join().unwrap().unwrap().destination_mac, mac(FAR));
            });
        }
    });
}

#[test]
fn a_group_has_an_address_without_any_neighbour() {
    Network::run(|_| {
        // Bit 23 of an IPv4 group is not in the hardware address: RFC 1112, section 6.4.
        for (group, source, mac) in [
            ("239.129.2.3", "192.0.2.1", "01:00:5e:01:02:03"),
            ("ff15::dead:beef", "2001:db8::1", "33:33:de:ad:be:ef"),
        ] {
            assert_eq!(look(group, Some("near")).unwrap(), path(source, mac));
        }
        let error = look("239.1.2.3", None).unwrap_err().to_string();
        assert!(error.starts_with("no route to 239.1.2.3: Network is unreachable"), "{error}");
        assert!(error.contains("name the interface"), "{error}");
        ip("route add 239.0.0.0/8 dev near src 192.0.2.7");
        let expected = path("192.0.2.7", "01:00:5e:01:02:03");
        assert_eq!(look("239.1.2.3", None).unwrap(), expected);
        // A group is on the link, whatever gateway its route names.
        ip("route replace 239.0.0.0/8 via 192.0.2.2 src 192.0.2.7");
        assert_eq!(look("239.1.2.3", None).unwrap(), expected);
    });
}

#[test]
fn the_named_interface_is_the_one() {
    Network::run(|_| {
        ip("link add second address 02:00:00:00:00:11 mtu 9000 type veth peer name other");
        ip("link set other up");
        network::set_up("second", &["192.0.2.101/24", "2001:db8::101/64"]);
        for (destination, source) in
            [("192.0.2.2", "192.0.2.101"), ("2001:db8::2", "2001:db8::101")]
        {
            ip(&format!("neigh add {destination} lladdr 02:00:00:00:00:33 dev second"));
            let second = Path {
                interface_index: index_of("second"),
                interface_name: "second".into(),
                source: source.parse().unwrap(),
                source_mac: mac("02:00:00:00:00:11"),
                destination_mac: mac("02:00:00:00:00:33"),
                mtu: 9000,
            };
            assert_eq!(look(destination, Some("second")).unwrap(), second);
            assert_eq!(resolve(destination, Some("near")).unwrap().destination_mac, mac(FAR));
        }
        ip("route add 2001:db8:2::/64 via fe80::2 dev near");
        let error = look("2001:db8:2::1", Some("second")).unwrap_err().to_string();
        assert!(error.starts_with("no route to 2001:db8:2::1 through second: "), "{error}");
    });
}

#[test]
fn interfaces_that_take_no_frames_are_named() {
    Network::run(|_| {
        ip("tuntap add mode tun name tun7");
        ip("link set tun7 up");
        ip("address add 10.7.0.1/24 dev tun7");
        let error = look("10.7.0.2", None).unwrap_err().to_string();
        assert!(
            error.starts_with("tun7 is not an Ethernet interface (link layer: NONE)"),
            "{error}"
        );
        assert!(error.contains("by udp"), "{error}");

        ip("route add 239.0.0.0/8 dev lo");
        for (group, interface) in [("239.1.1.1", None), ("ff15::1", Some("lo"))] {
            let error = look(group, interface).unwrap_err().to_string();
            assert!(error.starts_with("lo is not an Ethernet interface"), "{error}");
        }
        for (destination, interface) in [
            ("127.0.0.1", None),
            ("::1", None),
            ("192.0.2.7", None),
            ("192.0.2.7", Some("near")),
            ("2001:db8::1", Some("near")),
        ] {
            let error = look(destination, interface).unwrap_err().to_string();
            assert!(error.contains("is an address of this machine"), "{error}");
        }

        ip("link set near down");
        let error = look("192.0.2.2", Some("near")).unwrap_err().to_string();
        assert_eq!(error, "near is down: bring it up with `ip link set near up`");
    });
}

#[test]
fn routes_that_lead_nowhere_are_told_apart() {
    Network::run(|_| {
        let kinds = [
            ("unreachable", Errno::EHOSTUNREACH),
            ("prohibit", Errno::EACCES),
            ("blackhole", Errno::EINVAL),
        ];
        for (host, (kind, errno)) in (0..).zip(kinds) {
            for destination in [format!("198.51.100.{host}"), format!("2001:db8:3::{host}")] {
                ip(&format!("route add {kind} {destination}"));
                match look(&destination, None).unwrap_err() {
                    ResolveError::NoRoute { source, .. } => {
                        assert_eq!(
                            source.raw_os_error(),
                            Some(errno as i32),
                            "{kind} {destination}"
                        );
                    }
                    error => panic!("{error}"),
                }
            }
        }
        let error = look("203.0.113.1", None).unwrap_err().to_string();
        assert!(error.starts_with("no route to 203.0.113.1: Network is unreachable"), "{error}");
        let error = look("192.0.2.255", None).unwrap_err().to_string();
        assert!(error.starts_with("192.0.2.255 is a broadcast address"), "{error}");
    });
}

#[test]
fn an_interface_without_an_address_is_named() {
    Network::run(|_| {
        ip("address flush dev near");
        for (group, family) in [("239.1.1.1", "IPv4"), ("ff15::1", "IPv6")] {
            let error = look(group, Some("near")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("near has no {family} address")), "{error}");
        }
    });
}

#[test]
fn an_interface_that_there_is_not_is_named() {
    // Needs no network: 0 and what is negative to the kernel are no index.
    for index in [0, 0x7fff_fff0, u32::MAX] {
        let error = Path::resolve([192, 0, 2, 1].into(), Some(index), LIMIT).unwrap_err();
        assert!(error.to_string().starts_with(&format!("no interface has the index {index}")));
    }
}

/// RFC 863.
const DISCARD: u16 = 9;
/// Far more than an answer takes, so that no test depends on time.
const LIMIT: Duration = Duration::from_secs(30);
