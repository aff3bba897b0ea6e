//! Two network namespaces that a veth pair joins. They have no names and end with the thread and the
//! files that hold them, also if a test fails.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::panic;
use std::process::{self, Command};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Two hosts on a link. The near one has a neighbour; the tests look from there.
pub(super) struct Network {
    near: File,
    far: File,
}

impl Network {
    /// Runs `test` on a thread of the near host, if this process may make one.
    pub(super) fn run(test: impl FnOnce(&Network) + Send) {
        let host = || match Self::new() {
            Ok(network) => test(&network),
            Err(reason) => skip(&reason),
        };
        // A thread of its own: threads do not come back from other namespaces by themselves.
        let ended = thread::scope(|scope| scope.spawn(host).join());
        ended.unwrap_or_else(|panic| panic::resume_unwind(panic));
    }

    fn new() -> Result<Network, String> {
        if let Err(error) = Command::new("ip").arg("-V").output() {
            return Err(format!("ip(8): {error}"));
        }
        let host = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| format!("network namespaces need root: {errno}"))?;
            Ok::<_, String>(File::open("/proc/thread-self/ns/net").unwrap())
        };
        let (far, near) = (host()?, host()?);
        let network = Network { near, far };
        let far = format!("/proc/{}/fd/{}", process::id(), network.far.as_raw_fd());
        ip(&format!(
            "link add near address {NEAR} type veth peer name far address {FAR} netns {far}"
        ));
        set_up("near", &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"]);
        ip("address add 192.0.2.7/24 dev near");
        ip("link set lo up");
        network.on_far(|| {
            set_up("far", &["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"]);
        });
        Ok(network)
    }

    pub(super) fn on_far<T>(&self, act: impl FnOnce() -> T) -> T {
        setns(&self.far, CloneFlags::CLONE_NEWNET).unwrap();
        let result = act();
        setns(&self.near, CloneFlags::CLONE_NEWNET).unwrap();
        result
    }
}

pub(super) fn set_up(interface: &str, addresses: &[&str]) {
    // Else there would be a second link-local address.
    ip(&format!("link set {interface} addrgenmode none"));
    ip(&format!("link set {interface} up"));
    for address in addresses {
        add_address(address, interface);
    }
}

pub(super) fn add_address(address: &str, interface: &str) {
    // Else an IPv6 address could not be used for a second or two: RFC 4862, section 5.4.
    let is_ipv6 = address.contains(':');
    let nodad = if is_ipv6 { "nodad" } else { "" };
    ip(&format!("address add {address} dev {interface} {nodad}"));
    // Of IPv6, the address is this machine's only once a work queue of the kernel has come round to it:
    // addrconf_dad_work() in net/ipv6/addrconf.c, also where there is nothing to detect.
    let (host, _) = address.split_once('/').unwrap();
    let local = format!("-6 route show table local dev {interface} exact {host}/128");
    while is_ipv6 && ip(&local).is_empty() {}
}

fn skip(reason: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    // Not by a macro, which would write to what the harness captures; and on a line of its own.
    writeln!(io::stderr(), "\nskipped: neighbours in network namespaces: {reason}").unwrap();
}

pub(super) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) const NEAR: &str = "02:00:00:00:00:01";
pub(super) const FAR: &str = "02:00:00:00:00:02";
