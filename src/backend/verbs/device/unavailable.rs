//! Why there is no RDMA device.

use std::{error, fmt, io};

/// Why there is no RDMA device to be had. Says what to do as well.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unavailable {
    /// libibverbs cannot be loaded, in the dynamic linker's words.
    NoLibrary(String),
    /// The kernel does not offer RDMA to programs: `ib_uverbs` is not loaded.
    NoKernelSupport,
    /// The kernel knows these devices, and libibverbs has no driver for any of them.
    NoProvider(Vec<String>),
    /// The kernel knows no device.
    NoDevice,
    /// libibverbs could not list the devices.
    Os(io::Error),
}

impl Unavailable {
    /// What to do about it, one thing an entry.
    pub fn remedy(&self) -> &'static [&'static str] {
        match self {
            Self::NoLibrary(_) => &[
                "Debian, Ubuntu: sudo apt-get install libibverbs1 ibverbs-providers",
                "Fedora, RHEL: sudo dnf install libibverbs",
            ],
            Self::NoKernelSupport => &[
                "sudo modprobe ib_uverbs",
                "In a container: load it on the host, and add --device=/dev/infiniband to docker run",
            ],
            Self::NoProvider(_) => &[
                "Debian, Ubuntu: sudo apt-get install ibverbs-providers",
                "In a container, rdma-core may be older than the driver of the host's kernel",
            ],
            Self::NoDevice => &[
                "Load the driver of the NIC's RDMA half, such as: sudo modprobe mlx5_ib",
                "In a container: add --device=/dev/infiniband --network=host to docker run",
            ],
            Self::Os(_) => &["See what the kernel's log (dmesg) and ibv_devices say"],
        }
    }

    fn hint(&self) -> &'static str {
        self.remedy().first().copied().unwrap_or_default()
    }

    /// What is wrong, without what to do.
    pub fn cause(&self) -> String {
        match self {
            Self::NoLibrary(error) => format!("libibverbs cannot be loaded ({error})"),
            Self::NoKernelSupport => {
                "the kernel does not offer RDMA: its module ib_uverbs is not loaded".into()
            }
            Self::NoProvider(devices) => {
                format!("libibverbs has no driver for what the kernel has: {}", devices.join(", "))
            }
            Self::NoDevice => "the kernel has no RDMA device".into(),
            Self::Os(error) => format!("libibverbs cannot list the RDMA devices: {error}"),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.hint())
    }
}

impl error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_apart_and_has_a_remedy() {
        let library = "libibverbs.so.1: cannot open shared object file: No such file or directory";
        for (unavailable, cause, remedy) in [
            (Unavailable::NoLibrary(library.into()), library, "apt-get install libibverbs1"),
            (Unavailable::NoKernelSupport, "ib_uverbs is not loaded", "modprobe ib_uverbs"),
            (Unavailable::NoProvider(vec!["mlx5_0".into()]), "mlx5_0", "ibverbs-providers"),
            (Unavailable::NoDevice, "no RDMA device", "modprobe mlx5_ib"),
            (Unavailable::Os(io::ErrorKind::OutOfMemory.into()), "out of memory", "dmesg"),
        ] {
            let message = unavailable.to_string();
            assert!(message.contains(cause) && message.contains(remedy), "{message}");
        }
    }
}
