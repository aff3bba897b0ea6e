//! What stops verbs, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::Path;

use doorbell::backend::verbs::device::{LinkLayer, RawPackets, RdmaDevice, RdmaPort, Unavailable};
use indicatif::HumanBytes;
use serde::Serialize;

use super::interface::NetworkInterface;
use super::process::{Process, setcap};

/// Something that stops verbs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The cause, in a word that stays the same.
    pub code: &'static str,
    /// The device that it stops; null if all.
    pub device: Option<String>,
    pub port: Option<u8>,
    /// The cause, in a sentence.
    pub cause: String,
    /// What to do, a line each.
    pub remedy: Vec<String>,
}

impl Obstacle {
    fn new(code: &'static str, cause: String, remedy: &[&str]) -> Self {
        let remedy = remedy.iter().map(|&line| line.to_owned()).collect();
        Self { code, device: None, port: None, cause, remedy }
    }

    fn at(self, device: &str, port: Option<u8>) -> Self {
        Self { device: Some(device.to_owned()), port, ..self }
    }

    /// There is no device.
    pub fn unavailable(unavailable: &Unavailable, interfaces: &[NetworkInterface]) -> Self {
        let code = match unavailable {
            Unavailable::NoLibrary(_) => "no-library",
            Unavailable::NoKernelSupport => "no-kernel-support",
            Unavailable::NoProvider(_) => "no-provider",
            Unavailable::NoDevice => "no-device",
            _ => "not-listed",
        };
        let mut obstacle = Self::new(code, unavailable.cause(), unavailable.remedy());
        if matches!(unavailable, Unavailable::NoKernelSupport | Unavailable::NoDevice) {
            let able = interfaces.iter().filter_map(|it| Some((&it.name, it.rdma_module()?)));
            obstacle.remedy.extend(able.map(|(name, module)| {
                format!(
                    "The NIC of {name} does RDMA, once its driver is loaded: sudo modprobe {module}"
                )
            }));
        }
        obstacle
    }

    /// What stops a device as a whole.
    pub fn of_device(device: &RdmaDevice) -> Option<Self> {
        let error = device.caps.as_ref().err()?;
        let name = &device.name;
        let remedy: &[&str] = match error.kind() {
            ErrorKind::NotFound => &[
                "sudo modprobe ib_uverbs",
                "In a container: add --device=/dev/infiniband to docker run",
            ],
            ErrorKind::PermissionDenied => &[
                "See who may open it: ls -l /dev/infiniband (rdma-core's udev rules let everybody)",
                "In a container: add --device=/dev/infiniband to docker run",
            ],
            _ => &["See what the kernel's log (dmesg) and ibv_devinfo say"],
        };
        let cause = format!("{name} cannot be opened: {error}");
        Some(Self::new("device-not-opened", cause, remedy).at(name, None))
    }

    /// What stops a port.
    pub fn of_port(device: &RdmaDevice, port: &RdmaPort, raw_packets: &RawPackets) -> Vec<Self> {
        let mut obstacles = Vec::new();
        let place = format!("{} port {}", device.name, port.number);
        let mut add = |code, cause, remedy: &[&str]| {
            obstacles.push(Self::new(code, cause, remedy).at(&device.name, Some(port.number)));
        };
        if port.link_layer != LinkLayer::Ethernet {
            add(
                "not-ethernet",
                format!("{place} is {}, not Ethernet", port.link_layer),
                &["NVIDIA NICs that can be either: sudo mlxconfig -d DEVICE set LINK_TYPE_P1=2"],
            );
            // Nothing else matters then.
            return obstacles;
        }
        if !port.can_send() {
            let link = match port.interfaces.first() {
                Some(interface) => format!("sudo ip link set {interface} up"),
                None => "sudo ip link set INTERFACE up".into(),
            };
            add(
                "port-down",
                format!("{place} is {}", port.state),
                &[&link, "If that is so already: look at cable, transceiver and switch"],
            );
        }
        if port.interfaces.is_empty() {
            add(
                "no-interface",
                format!("{place} has no network interface here"),
                &["In a container: add --network=host to docker run"],
            );
        }
        match raw_packets {
            RawPackets::Unsupported => {
                add(
                    "no-raw-packets",
                    format!("{place} has no raw packet queue pairs"),
                    &[
                        "Take another NIC: NVIDIA ConnectX-3 and later have them, rxe and siw do not",
                        "Or send datagrams to the queue of `doorbell recv --backend verbs --qp ud`",
                    ],
                );
            }
            RawPackets::Refused(error) => {
                let remedy = match error.kind() {
                    ErrorKind::OutOfMemory => MEMLOCK,
                    _ => &["See what the kernel's log (dmesg) says"],
                };
                add(
                    "queue-refused",
                    format!("{place} refuses a raw packet queue: {error}"),
                    remedy,
                );
            }
            _ => {}
        }
        obstacles
    }

    /// What stops this process, whatever the device. `refused` is whether a device did.
    pub fn of_process(
        process: &Process,
        refused: bool,
        program: &io::Result<impl AsRef<Path>>,
    ) -> Vec<Self> {
        let mut obstacles = Vec::new();
        match process.cap_net_raw {
            // ib_uverbs asks capable(), so it counts in the initial user namespace (create_qp() in
            // Linux's drivers/infiniband/core/uverbs_cmd.c).
            Some(true) if refused => obstacles.push(Self::new(
                "no-cap-net-raw-on-host",
                "raw packets are refused, although this process has CAP_NET_RAW here: the kernel \
                 wants that of the host"
                    .into(),
                &["Run it outside of rootless containers and other user namespaces"],
            )),
            Some(false) => {
                let path = program.as_ref().map_or(Path::new("doorbell"), AsRef::as_ref);
                obstacles.push(Self::new(
                    "no-cap-net-raw",
                    "raw packets need CAP_NET_RAW, which this process has not".into(),
                    &[
                        &setcap(path),
                        "In a container: run it as root, and add --cap-add=NET_RAW to docker run",
                    ],
                ));
            }
            _ => {}
        }
        if let Some(limit) = process.short_memlock() {
            let cause = format!(
                "RLIMIT_MEMLOCK is {}: the default stream pins up to {}",
                HumanBytes(limit),
                HumanBytes(process.memlock_needed_bytes)
            );
            obstacles.push(Self::new("memlock", cause, MEMLOCK));
        }
        obstacles
    }
}

const MEMLOCK: &[&str] = &[
    "For this shell, if its hard limit allows: ulimit -l unlimited",
    "For good: add `* - memlock unlimited` to /etc/security/limits.conf, and log in anew",
    "In a systemd service: LimitMEMLOCK=infinity",
    "In a container: add --ulimit memlock=-1 to docker run",
];

#[cfg(test)]
mod tests {
    use doorbell::backend::verbs::DeviceCaps;
    use doorbell::backend::verbs::device::PortState;

    use super::*;

    fn device(port: RdmaPort) -> RdmaDevice {
        RdmaDevice {
            name: "mlx5_0".into(),
            pci: None,
            numa_node: None,
            caps: Ok(DeviceCaps::default()),
            ports: vec![port],
        }
    }

    fn port() -> RdmaPort {
        RdmaPort {
            number: 1,
            state: PortState::Active,
            link_layer: LinkLayer::Ethernet,
            mtu: 4096,
            speed_gbps: None,
            gids: Vec::new(),
            interfaces: vec!["eth2".into()],
        }
    }

    fn codes(port: RdmaPort, raw_packets: RawPackets) -> Vec<&'static str> {
        let device = device(port);
        let found = Obstacle::of_port(&device, &device.ports[0], &raw_packets);
        assert!(found.iter().all(|it| it.cause.contains("mlx5_0 port 1") && !it.remedy.is_empty()));
        found.iter().map(|obstacle| obstacle.code).collect()
    }

    #[test]
    fn each_cause_has_a_code_of_its_own() {
        let refused = || RawPackets::Refused(io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(codes(port(), RawPackets::Permitted).is_empty());
        // That of the process, not of a port.
        assert!(codes(port(), RawPackets::NotPermitted).is_empty());
        assert_eq!(codes(port(), RawPackets::Unsupported), ["no-raw-packets"]);
        assert_eq!(codes(port(), refused()), ["queue-refused"]);
        let down = RdmaPort { state: PortState::Down, interfaces: Vec::new(), ..port() };
        assert_eq!(codes(down, RawPackets::Permitted), ["port-down", "no-interface"]);
        let other = RdmaPort { link_layer: LinkLayer::InfiniBand, ..port() };
        assert_eq!(codes(other, RawPackets::Unsupported), ["not-ethernet"]);
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_told_by_its_errno() {
        let remedy = |errno| {
            let caps = Err(io::Error::from_raw_os_error(errno));
            let device = RdmaDevice { caps, ports: Vec::new(), ..device(port()) };
            Obstacle::of_device(&device).unwrap().remedy.join("\n")
        };
        assert!(remedy(libc::ENOENT).contains("modprobe ib_uverbs"));
        assert!(remedy(libc::EACCES).contains("/dev/infiniband"));
        assert!(remedy(libc::EIO).contains("dmesg"));
        assert_eq!(Obstacle::of_device(&device(port())), None);
    }

    #[test]
    fn what_the_process_lacks_is_told_apart() {
        let process = |cap_net_raw, memlock_bytes| Process {
            cap_net_raw: Some(cap_net_raw),
            cap_ipc_lock: Some(false),
            memlock_bytes,
            memlock_needed_bytes: 2 << 20,
        };
        let found = |process: &Process, refused| {
            Obstacle::of_process(process, refused, &Ok("/opt/doorbell"))
        };
        assert!(found(&process(true, None), false).is_empty());
        assert_eq!(found(&process(true, None), true)[0].code, "no-cap-net-raw-on-host");
        for refused in [false, true] {
            let lacks = found(&process(false, None), refused);
            assert_eq!((lacks.len(), lacks[0].code), (1, "no-cap-net-raw"));
            assert_eq!(lacks[0].remedy[0], "sudo setcap cap_net_raw+ep /opt/doorbell");
        }
        let low = found(&process(true, Some(65536)), false);
        assert_eq!((low.len(), low[0].code), (1, "memlock"));
        assert!(low[0].cause.contains("64.00 KiB") && low[0].remedy[0].contains("ulimit -l"));
    }
}
