//! What this process may do.

use std::fs;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;

/// What this process may do, as far as RDMA asks.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Whether it has CAP_NET_RAW; null if the kernel does not tell.
    pub cap_net_raw: Option<bool>,
    /// Whether it has CAP_IPC_LOCK, for which RLIMIT_MEMLOCK is none.
    pub cap_ipc_lock: Option<bool>,
    /// RLIMIT_MEMLOCK; null is no limit.
    pub memlock_bytes: Option<u64>,
    /// What the default stream needs of that.
    pub memlock_needed_bytes: u64,
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = effective_capabilities(&status);
        let has = |capability: u32| effective.map(|set| set & (1 << capability) != 0);
        Self {
            cap_net_raw: has(CAP_NET_RAW),
            cap_ipc_lock: has(CAP_IPC_LOCK),
            memlock_bytes: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(soft, _)| soft)
                .filter(|&soft| soft != RLIM_INFINITY),
            memlock_needed_bytes: DEFAULT_STREAM,
        }
    }

    /// RLIMIT_MEMLOCK, if it is too low for the default stream.
    pub fn short_memlock(&self) -> Option<u64> {
        let limit = self.memlock_bytes.filter(|_| self.cap_ipc_lock != Some(true));
        limit.filter(|&limit| limit < self.memlock_needed_bytes)
    }
}

/// The effective set of `proc_pid_status(5)`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// The command that lets a program send raw packets.
pub fn setcap(program: &Path) -> String {
    let program = program.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    match program.chars().all(plain) {
        true => format!("sudo setcap cap_net_raw+ep {program}"),
        false => format!("sudo setcap cap_net_raw+ep '{}'", program.replace('\'', r"'\''")),
    }
}

/// linux/capability.h
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;

/// Batches of 1 MiB, their headers, and the queues.
const DEFAULT_STREAM: u64 = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tdoorbell\nCapPrm:\t0000000000000000\nCapEff:\t0000000000002000\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_NET_RAW));
        for broken in ["", "CapEff:", "CapEff:\tzz", "CapEff:\t11112222333344445"] {
            assert_eq!(effective_capabilities(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_limit_is_none_for_the_privileged() {
        let process = |memlock_bytes, cap_ipc_lock| Process {
            cap_net_raw: None,
            cap_ipc_lock,
            memlock_bytes,
            memlock_needed_bytes: 1000,
        };
        assert_eq!(process(Some(999), Some(false)).short_memlock(), Some(999));
        assert_eq!(process(Some(999), None).short_memlock(), Some(999));
        assert_eq!(process(Some(999), Some(true)).short_memlock(), None);
        assert_eq!(process(Some(1000), Some(false)).short_memlock(), None);
        assert_eq!(process(None, Some(false)).short_memlock(), None);
    }

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        for (path, quoted) in [
            ("/usr/local/bin/doorbell", "/usr/local/bin/doorbell"),
            ("/home/o'neill/my bin/doorbell", r"'/home/o'\''neill/my bin/doorbell'"),
            ("/tmp/$(id)", "'/tmp/$(id)'"),
        ] {
            assert_eq!(setcap(Path::new(path)), format!("sudo setcap cap_net_raw+ep {quoted}"));
        }
    }
}
