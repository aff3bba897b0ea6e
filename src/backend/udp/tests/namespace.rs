//! What loopback does not do by itself, in network namespaces where it is made to.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::super::post::CALL;
use super::*;

#[test]
fn packets_beyond_the_mtu_fail_and_the_others_go() {
    in_namespace(&["ip link set lo mtu 1500 up"], || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let config = UdpConfig::new(vec![receiver.address()]);
        assert_eq!(route_mtu(&config).unwrap(), 1500);
        let mut udp = Udp::open(&config).unwrap();
        // 6 packets in one message that cannot be segmented, and 2 that fit.
        let plan = plan(&[(4000, 6), (1000, 2)], 8972);
        let mut batch = batch(&plan, Layout::Packed, &mut udp);
        let large = plan.packets()[0].len();
        let error = Some(SendError::TooLarge { bytes: large, mtu: Some(1500) });
        assert_eq!(
            send(&mut udp, &mut batch, 0..8),
            [Done { error, ..done(&batch, 0..6) }, done(&batch, 6..8)]
        );
        receiver.expect(&batch, 6..8);
        receiver.expect_nothing();
        // It was not segmentation that was refused.
        assert_eq!(udp.counters().segmentation_refused, 0);
    });
}

#[test]
fn multicast_of_ipv6_leaves_through_the_interface() {
    // Linux does not deliver IPv6 multicast over loopback; from another interface it loops back.
    let commands = [
        "ip link set lo up",
        "ip link add veth0 type veth peer name veth1",
        "sysctl -qw net.ipv6.conf.veth0.accept_dad=0",
        "ip link set veth1 up",
        "ip link set veth0 up",
    ];
    in_namespace(&commands, || {
        let interface = Interface::find("veth0").unwrap();
        let receiver = Receiver::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0));
        for group in ["ff12::8607", "ff15::8607"] {
            let group: Ipv6Addr = group.parse().unwrap();
            receiver.0.join_multicast_v6(&group, interface.index).unwrap();
            // An interface has no routes before the kernel has seen its link come up.
            let config = UdpConfig {
                interface: Some(interface.clone()),
                ..UdpConfig::new(vec![SocketAddr::new(group.into(), 1)])
            };
            for _ in (0..500).take_while(|_| route_mtu(&config).is_err()) {
                thread::sleep(Duration::from_millis(10));
            }
            let udp = assert_multicast_arrives(group.into(), &interface, &receiver);
            let socket = SockRef::from(&udp);
            assert_eq!(socket.multicast_hops_v6().unwrap(), 7);
            assert_eq!(socket.unicast_hops_v6().unwrap(), 7);
        }
    });
}

#[test]
fn a_full_send_buffer_is_waited_for() {
    let slow = "tc qdisc add dev lo root tbf rate 400mbit burst 128kb limit 100mb";
    in_namespace(&["ip link set lo up", slow], || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let config = UdpConfig { send_buffer: 100_000, ..UdpConfig::new(vec![receiver.address()]) };
        let mut udp = Udp::open(&config).unwrap();
        assert_arrives_after_waits(&mut udp, &receiver);
        assert_eq!(udp.counters().segmentation_refused, 0);
    });
}

#[test]
fn a_full_device_queue_is_waited_for() {
    let slow = "tc qdisc add dev lo root tbf rate 400mbit burst 128kb limit 300kb";
    in_namespace(&["ip link set lo up", slow], || {
        for address in loopbacks() {
            let receiver = Receiver::bind(address);
            assert_arrives_after_waits(&mut open(&[receiver.address()]), &receiver);
        }
    });
}

#[test]
fn a_device_queue_shorter_than_a_message_gets_single_packets() {
    let slow = "tc qdisc add dev lo root handle 1: tbf rate 400mbit burst 128kb limit 100kb";
    let short = "tc qdisc add dev lo parent 1:1 bfifo limit 20000";
    in_namespace(&["ip link set lo up", slow, short], || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let mut udp = open(&[receiver.address()]);
        assert_arrives_after_waits(&mut udp, &receiver);
        assert!(udp.counters().segmentation_refused > 0, "{:?}", udp.counters());
    });
}

fn assert_arrives_after_waits(udp: &mut Udp, receiver: &Receiver) {
    let plan = plan(&[(8192, 128)], 1472);
    let packets = plan.packets().len() as u32;
    let mut batch = batch(&plan, Layout::Packed, udp);
    for _ in 0..3 {
        assert_eq!(send(udp, &mut batch, 0..packets), [done(&batch, 0..packets)]);
        receiver.expect(&batch, 0..packets);
    }
    assert!(udp.counters().waits > 0, "{:?}", udp.counters());
}

#[test]
fn what_cannot_be_reached_is_named() {
    in_namespace(&["ip link set lo up"], || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        for destinations in [vec!["192.0.2.1:7148"], vec!["127.0.0.1:7148", "192.0.2.1:7148"]] {
            let destinations = destinations.iter().map(|it| it.parse().unwrap()).collect();
            let error = Udp::open(&UdpConfig::new(destinations)).unwrap_err().to_string();
            assert_eq!(
                error,
                "find a route to (192.0.2.1:7148): Network is unreachable (os error 101)"
            );
        }
        // A route that goes away while sending: the message fails, and later ones do not.
        run("ip route add 192.0.2.0/24 dev lo").unwrap();
        let far = "192.0.2.1:7148".parse().unwrap();
        let mut udp = open(&[receiver.address(), far]);
        run("ip route replace unreachable 192.0.2.0/24").unwrap();
        let heap = HeapSpec::new().payload(0x3300, 1000);
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472));
        let plan = Arc::new(plan.heaps(&heap, 4).flows(2).build().unwrap());
        let mut batch = batch(&plan, Layout::Packed, &mut udp);
        let error = Some(SendError::Os { call: CALL, errno: libc::EHOSTUNREACH });
        let outcome = send(&mut udp, &mut batch, 0..4);
        // Heaps 0 and 2 go to the one, then 1 and 3 to the other.
        assert_eq!(outcome, [done(&batch, 0..2), Done { error, ..done(&batch, 2..4) }]);
        receiver.expect(&batch, 0..2);
    });
}

#[test]
fn without_loopback_there_is_still_an_answer() {
    in_namespace(&[], || assert_eq!(max_segments(), 64));
}

/// Runs a test on a thread with a network of its own, set up by some commands.
pub(super) fn in_namespace(commands: &[&str], test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let set_up = || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare: {error}"))?;
                commands.iter().try_for_each(|command| run(command))
            };
            match set_up() {
                Ok(()) => test(),
                Err(reason) => skip("a network namespace", &reason),
            }
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub(super) fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{command}`: {status}")),
        Err(error) => Err(format!("`{command}`: {error}")),
    }
}
