//! Frames on a veth interface, as the kernel's UDP stack at its other end sees them.

#![allow(unsafe_code, reason = "drives verbs by hand")]

mod support;

use std::ffi::CStr;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;
use std::{fs, io, thread};

use ibverbs_dl::*;
use support::queue::{IP_CSUM, Queue, Request, SIGNALLED};
use support::{on_device, skip};

/// A UDP datagram of `length` bytes in an Ethernet frame, with checksums that are wrong.
fn frame(destination: [u8; 6], vlan: Option<u16>, length: usize) -> Vec<u8> {
    let mut frame = [&destination[..], &[2, 0, 0, 0, 0, 9]].concat();
    if let Some(vlan) = vlan {
        frame.extend_from_slice(&[0x81, 0x00]);
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    let network = if vlan.is_some() { 8 } else { 9 };
    let total = u16::try_from(28 + length).unwrap().to_be_bytes();
    let udp = u16::try_from(8 + length).unwrap().to_be_bytes();
    frame
        .extend_from_slice(&[8, 0, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0xba, 0xad]);
    frame.extend_from_slice(&[10, network, 0, 1, 10, network, 0, 2, 0x1b, 0xec, 0x1b, 0xec]);
    frame.extend_from_slice(&[udp[0], udp[1], 0xba, 0xad]);
    frame.extend((0..length).map(|i| i as u8));
    frame
}

/// Runs ip(8) in this thread's network namespace.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of this thread's own, in which what leaves `v0` comes in at `v1`.
fn namespace() {
    // SAFETY: no pointers.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    ip("link set lo up");
    ip("link add v0 mtu 9000 address 02:00:00:00:00:01 type veth peer name v1 mtu 9000 \
        address 02:00:00:00:00:02");
    ip("address add 10.9.0.2/24 dev v1");
    ip("link set v1 up");
    set_up();
}

/// Brings `v0` up. It drops what it is given before the kernel has seen to its carrier.
fn set_up() {
    ip("link set v0 up");
    for interface in ["v0", "v1"] {
        while !ip(&format!("link show dev {interface}")).contains("state UP") {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind((address, 7148)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut room = [0; 10_000];
    let length = socket.recv(&mut room).unwrap();
    room[..length].to_vec()
}

/// A counter of this thread's namespace in /proc/net/snmp.
fn snmp(protocol: &str, counter: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == counter).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// Puts a frame into the queue's memory, and makes a request for it, in two pieces.
fn request(queue: &mut Queue, at: usize, frame: &[u8], flags: u32) -> Request {
    queue.memory[at..][..frame.len()].copy_from_slice(frame);
    let (key, rest) = (queue.lkey(), u32::try_from(frame.len() - 40).unwrap());
    Request { wr_id: at as u64, flags, sges: vec![(at, 40, key), (at + 40, rest, key)] }
}

fn on_veth(settings: &[(&str, &str)], what: &str, body: impl FnOnce()) {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 || Command::new("ip").arg("-V").output().is_err() {
        return skip(what, "network namespaces take root and ip(8)");
    }
    on_device(&[&[("VERBS_DEVICE", "veth=v0")], settings].concat(), || {
        namespace();
        body();
    });
}

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[test]
fn frames_arrive_whole_and_with_their_checksums() {
    on_veth(&[], "frames on a veth interface", || {
        let socket = receiver("10.9.0.2");
        let mut queue = Queue::open(64, 64);
        let lengths = [16, 17, 1000, 8971, 8972];
        let chain: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(i, &length)| {
                request(&mut queue, i * 10_000, &frame(PEER, None, length), IP_CSUM | SIGNALLED)
            })
            .collect();
        queue.post(&chain).unwrap();
        let all: Vec<_> = (0..5).map(|i| (i * 10_000, 0)).collect();
        assert_eq!(queue.poll_until(5), all);
        for length in lengths {
            assert_eq!(received(&socket), (0..length).map(|i| i as u8).collect::<Vec<_>>());
        }
        assert_eq!((snmp("Udp", "InErrors"), snmp("Udp", "InCsumErrors")), (0, 0));
        assert_eq!(snmp("Ip", "InHdrErrors"), 0);
        queue.close();
    });
}

/// What the device is not asked to fill in, it leaves alone, and the kernel drops.
#[test]
fn frames_go_out_as_they_are() {
    on_veth(&[], "checksums that nobody fills in", || {
        let socket = receiver("10.9.0.2");
        let mut queue = Queue::open(64, 64);
        let wrong = request(&mut queue, 0, &frame(PEER, None, 100), SIGNALLED);
        let right = request(&mut queue, 10_000, &frame(PEER, None, 50), IP_CSUM | SIGNALLED);
        queue.post(&[wrong, right]).unwrap();
        queue.poll_until(2);
        assert_eq!(received(&socket).len(), 50);
        assert_eq!(snmp("Ip", "InHdrErrors"), 1);
        queue.close();
    });
}

/// Seen on its way out: a kernel without 8021q does not deliver frames with a tag.
#[test]
fn a_tag_does_not_count_against_the_mtu() {
    on_veth(&[], "VLAN tags on a veth interface", || {
        let watcher = Watcher::new(c"v0");
        let mut queue = Queue::open(64, 64);
        let sent = frame(PEER, Some(5), 8972);
        let tagged = request(&mut queue, 0, &sent, IP_CSUM | SIGNALLED);
        queue.post(&[tagged]).unwrap();
        assert_eq!(queue.poll_until(1), [(0, 0)]);
        let seen = watcher.receive();
        assert_eq!((seen.len(), &seen[..28]), (sent.len(), &sent[..28]));
        assert_ne!(seen[28..30], [0xba, 0xad], "the checksum behind the tag is filled in");
        // A byte more than the interface takes.
        let long = request(&mut queue, 10_000, &frame(PEER, None, 8973), SIGNALLED);
        queue.post(&[long]).unwrap();
        assert_eq!(queue.poll_until(1), [(10_000, ibv_wc_status::IBV_WC_LOC_LEN_ERR)]);
        queue.close();
    });
}

/// A packet socket (packet(7)) that sees what leaves an interface.
struct Watcher(OwnedFd);

impl Watcher {
    fn new(interface: &CStr) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a descriptor that nobody else has, a terminated name, an address of that length;
        // zero is a value of each of its fields.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol));
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(interface.as_ptr()).cast_signed();
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0);
            Self(OwnedFd::from_raw_fd(fd))
        }
    }

    /// The next frame to the peer; the kernel sends others of its own.
    fn receive(&self) -> Vec<u8> {
        let mut room = [0; 10_000];
        loop {
            // SAFETY: there is room.
            let length =
                unsafe { libc::recv(self.0.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
            let frame = &room[..usize::try_from(length).unwrap()];
            if frame[..6] == PEER {
                return frame.to_vec();
            }
        }
    }
}

#[test]
fn an_interface_that_goes_down_takes_the_port_along() {
    on_veth(&[], "a veth interface that goes down", || {
        let socket = receiver("10.9.0.2");
        let mut queue = Queue::open(64, 64);
        let lost = request(&mut queue, 0, &frame(PEER, None, 10), IP_CSUM | SIGNALLED);
        let later = request(&mut queue, 10_000, &frame(PEER, None, 20), IP_CSUM | SIGNALLED);
        ip("link set v0 down");
        queue.post(&[lost]).unwrap();
        assert_eq!(queue.poll_until(1), [(0, 0)]);
        assert_eq!(queue.async_event(), IBV_EVENT_PORT_ERR);
        let mut port = ibv_port_attr::default();
        // SAFETY: the context lives.
        assert_eq!(unsafe { ibv_query_port(queue.context, 1, &raw mut port) }, 0);
        assert_eq!(port.state, ibv_port_state::IBV_PORT_DOWN);
        set_up();
        queue.post(&[later]).unwrap();
        queue.poll_until(1);
        assert_eq!(queue.async_event(), IBV_EVENT_PORT_ACTIVE);
        assert_eq!(received(&socket).len(), 20);
        queue.close();
    });
}

#[test]
fn a_writer_in_flight_tears_a_frame() {
    on_veth(&[("VERBS_DEVICE", "veth=v0,late=500000")], "a torn frame", || {
        let socket = receiver("10.9.0.2");
        let mut queue = Queue::open(64, 64);
        let request = request(&mut queue, 0, &frame(PEER, None, 10), IP_CSUM | SIGNALLED);
        queue.post(&[request]).unwrap();
        queue.memory[42..47].fill(0xff);
        queue.poll_until(1);
        assert_eq!(received(&socket), [0xff, 0xff, 0xff, 0xff, 0xff, 5, 6, 7, 8, 9]);
        queue.close();
    });
}
