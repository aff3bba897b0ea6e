//! What a user meets before anything is sent: routes, MTUs, and errors that say what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use doorbell::backend::interface::Interface;
use doorbell::backend::udp::{Udp, UdpConfig, route_mtu};
use doorbell::backend::{Backend, max_packet_size};

fn config(destinations: &[&str]) -> UdpConfig {
    UdpConfig::new(destinations.iter().map(|it| it.parse().unwrap()).collect())
}

fn open_error(config: &UdpConfig) -> String {
    let error = Udp::open(config).unwrap_err().to_string();
    assert_eq!(route_mtu(config).unwrap_err().to_string(), error);
    error
}

#[test]
fn a_backend_opens_without_privilege_and_says_what_it_can_do() {
    let config = config(&["127.0.0.1:7148", "127.0.0.1:7149"]);
    let udp: Box<dyn Backend> = Box::new(Udp::open(&config).unwrap());
    let caps = udp.caps();
    assert_eq!((caps.name, caps.placement.headroom, caps.flows), ("udp", 0, 2));
    // Since Linux 4.18, and 2024.
    assert!([64, 128].contains(&caps.placement.run.segments), "{caps:?}");
    assert_eq!(caps.placement.run.bytes, 65_507);
}

#[test]
fn the_packet_size_follows_from_the_mtu_of_the_route() {
    let [v4, v6] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    assert_eq!(max_packet_size(1500, v4), 1472);
    assert_eq!(max_packet_size(9000, v4), 8972);
    assert_eq!(max_packet_size(9000, v6), 8952);
    assert_eq!(max_packet_size(u32::MAX, v4), 65_507);
    assert_eq!(max_packet_size(20, v6), 0);

    let lo = Interface::find("lo").unwrap();
    // IPv4 packets end at 65,535 bytes.
    assert_eq!(route_mtu(&config(&["127.0.0.1:7148"])).unwrap(), lo.mtu.min(65_535));
    if lo.addresses.contains(&v6) {
        assert_eq!(route_mtu(&config(&["[::1]:7148", "[::1]:9"])).unwrap(), lo.mtu);
    }
}

#[test]
fn destinations_that_do_not_go_together_are_named() {
    assert_eq!(
        open_error(&config(&["127.0.0.1:7148", "[::1]:7148"])),
        "find the destinations (127.0.0.1:7148, [::1]:7148): IPv4 and IPv6 do not mix: all \
         destinations must be of one family"
    );
    assert_eq!(
        open_error(&config(&[])),
        "find the destinations (none given): at least one HOST:PORT is needed"
    );
    assert_eq!(
        open_error(&config(&["127.0.0.1:7148", "127.0.0.1:0"])),
        "find the destinations (127.0.0.1:0): port 0 cannot be sent to: name one from 1 to 65535"
    );
}

#[test]
fn ipv4_in_the_guise_of_ipv6_is_ipv4() {
    let mixed = config(&["[::ffff:127.0.0.1]:7148", "127.0.0.1:7149"]);
    assert_eq!(Udp::open(&mixed).unwrap().caps().overhead, 14 + 20 + 8);
}

#[test]
fn an_interface_without_an_address_of_the_family_is_named() {
    let lo = Interface { addresses: Vec::new(), ..Interface::find("lo").unwrap() };
    let unicast = UdpConfig { interface: Some(lo.clone()), ..config(&["127.0.0.1:7148"]) };
    assert_eq!(
        open_error(&unicast),
        "choose the interface (lo): it has no IPv4 address to send from"
    );
    // Multicast needs the interface only.
    let multicast = UdpConfig { interface: Some(lo), ..config(&["239.86.7.2:7148"]) };
    Udp::open(&multicast).unwrap();
}

#[test]
fn the_source_is_the_interface_and_the_port_asked_for() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let destination = receiver.local_addr().unwrap().to_string();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = UdpConfig {
        interface: Some(Interface::find("lo").unwrap()),
        source_port: taken.port(),
        ..config(&[&destination])
    };
    let udp = Udp::open(&config).unwrap();
    let socket = socket2::SockRef::from(&udp);
    assert_eq!(socket.local_addr().unwrap().as_socket(), Some(taken));

    let error = Udp::open(&config).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("bind the socket to ({taken}): Address already in use (os error 98)")
    );
}
