//! Where packets end: a network of one's own, if it may be had.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::str::FromStr;

use doorbell::backend::OpenError;
use doorbell::backend::udp::{UdpConfig, route_mtu};
use doorbell::settings::{Endpoint, InvalidValue};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use crate::exit::Failure;

/// Which sink is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// The first of the following that can be had.
    Auto,
    /// An ifb device in a private network namespace.
    Ifb,
    /// A veth pair in a private network namespace.
    Veth,
    /// A socket on loopback that nobody reads.
    Loopback,
    /// A host on a real link.
    To(Endpoint),
}

impl FromStr for SinkKind {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Ok(match text {
            "auto" => Self::Auto,
            "ifb" => Self::Ifb,
            "veth" => Self::Veth,
            "loopback" => Self::Loopback,
            _ => Self::To(text.parse()?),
        })
    }
}

/// Where packets end.
pub struct Sink {
    pub kind: &'static str,
    pub description: String,
    pub address: SocketAddr,
    /// Bytes of IP packet on the way there.
    pub mtu: u32,
    /// What is there on loopback.
    _socket: Option<UdpSocket>,
}

impl Sink {
    /// Sets a sink up for packets of up to `largest` bytes of SPEAD, 8972 unless given.
    ///
    /// May move the calling thread, and nothing else of the program, to a network of its own.
    pub fn open(kind: &SinkKind, largest: Option<u64>) -> Result<Self, Failure> {
        let mtu = largest.map_or(JUMBO_MTU, |size| size.saturating_add(IP_UDP_HEADERS));
        let mtu = mtu.clamp(ETHERNET_MTU, MAX_MTU);
        match kind {
            SinkKind::Ifb => Self::private(&IFB, mtu),
            SinkKind::Veth => Self::private(&VETH, mtu),
            SinkKind::Loopback => Self::loopback(None),
            SinkKind::To(endpoint) => Self::remote(endpoint),
            SinkKind::Auto => Self::private(&IFB, mtu).or_else(|no_ifb| {
                tracing::info!("{no_ifb}");
                Self::private(&VETH, mtu).or_else(|no_veth| {
                    tracing::info!("{no_veth}");
                    Self::loopback(Some(&no_ifb))
                })
            }),
        }
    }

    fn private(device: &Device, mtu: u64) -> Result<Self, Failure> {
        let error = |why: String| OpenError::new("set up a private network", device.kind, why);
        let outside = File::open(OWN_NETWORK).map_err(|source| error(source.to_string()))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
            error(format!("{}; it takes root, or `unshare -rn doorbell bench`", errno.desc()))
        })?;
        for command in device.commands.iter().chain(&ROUTE) {
            if let Err(why) = run(&command.replace("MTU", &mtu.to_string())) {
                // Back to where there is a loopback device that is up.
                setns(outside, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| error(format!("{why}; setns: {}", errno.desc())))?;
                return Err(error(why).into());
            }
        }
        Self::found(device.kind, device.description.into(), SINK, None)
    }

    fn loopback(why: Option<&Failure>) -> Result<Self, Failure> {
        let error = |source| OpenError::new("bind a socket", "loopback", source);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(error)?;
        // Without, the kernel segments each message for this socket, at the sender's expense.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        let address = socket.local_addr().map_err(error)?;
        let mut description = "a loopback socket that nobody reads".to_owned();
        if let Some(why) = why {
            description += &format!("; {why}");
        }
        Self::found("loopback", description, address, Some(socket))
    }

    fn remote(endpoint: &Endpoint) -> Result<Self, Failure> {
        let host = endpoint.host().to_string();
        let address = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|error| OpenError::new("look up", &host, error))?
            .next()
            .ok_or_else(|| OpenError::new("look up", &host, "it has no address"))?;
        Self::found("host", host, address, None)
    }

    fn found(
        kind: &'static str,
        description: String,
        address: SocketAddr,
        socket: Option<UdpSocket>,
    ) -> Result<Self, Failure> {
        let mtu = route_mtu(&UdpConfig::new(vec![address]))?;
        Ok(Self { kind, description, address, mtu, _socket: socket })
    }
}

/// A device that takes packets and does away with them, and how to make it.
struct Device {
    kind: &'static str,
    description: &'static str,
    commands: &'static [&'static str],
}

/// Its transmit frees packets that were not redirected to it, whole messages included: `ifb_xmit()`
/// in Linux's `drivers/net/ifb.c`.
const IFB: Device = Device {
    kind: "ifb",
    description: "an ifb device in a private network namespace, which frees what it is given",
    commands: &["ip link add sink0 mtu MTU type ifb", "tc qdisc replace dev sink0 root noqueue"],
};
/// The filter is one instruction of classic BPF, "return TC_ACT_SHOT": tc-bpf(8). Kernels have that
/// more often than `matchall`. Tabs, as words are separated by spaces.
const VETH: Device = Device {
    kind: "veth",
    description: "a veth pair in a private network namespace, whose far end drops",
    commands: &[
        "ip link add sink0 mtu MTU type veth peer name far0 mtu MTU",
        "tc qdisc add dev far0 clsact",
        "tc filter add dev far0 ingress bpf da bytecode 1,6\t0\t0\t2",
        "ip link set far0 up",
    ],
};
/// Loopback is where the number of segments in a message is probed.
const ROUTE: [&str; 4] = [
    "ip link set lo up",
    "ip address add 198.18.0.1/15 dev sink0",
    "ip link set sink0 up",
    "ip neighbour add 198.18.0.2 lladdr 02:00:00:00:00:02 dev sink0 nud permanent",
];

/// Runs a command in the network of this thread.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("`{program}`, of iproute2: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{command}`: {}", said.lines().next().unwrap_or("it failed")))
        }
    }
}

/// In the network that is set aside for benchmarks: RFC 2544, appendix C.2.2.
const SINK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)), 7148);
/// The network of the calling thread: proc(5).
const OWN_NETWORK: &str = "/proc/thread-self/ns/net";
const IP_UDP_HEADERS: u64 = 20 + 8;
const ETHERNET_MTU: u64 = 1500;
const JUMBO_MTU: u64 = 9000;
const MAX_MTU: u64 = 65_535;
