//! What the kernel says of RDMA devices in files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wire::MacAddress;

/// Classes of devices (`Documentation/ABI/stable/sysfs-class-infiniband` of Linux). What is missing
/// there, or is not understood, is not known.
pub(super) struct Sysfs {
    class: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { class: PathBuf::from("/sys/class") }
    }
}

impl Sysfs {
    /// Names of the devices that the kernel knows, whether or not libibverbs does.
    pub(super) fn devices(&self) -> Vec<String> {
        entries(&self.class.join("infiniband"))
    }

    /// Address on the PCI bus.
    pub(super) fn pci(&self, device: &str) -> Option<String> {
        let link = fs::read_link(self.device(device).join("device")).ok()?;
        let name = link.file_name()?.to_str()?;
        // 0000:3b:00.0; other buses have other names.
        let parts: Vec<&str> = name.split([':', '.']).collect();
        let hex = parts.iter().all(|part| u32::from_str_radix(part, 16).is_ok());
        (parts.len() == 4 && hex).then(|| name.to_owned())
    }

    /// NUMA node; the kernel says -1 where there is none.
    pub(super) fn numa_node(&self, device: &str) -> Option<u32> {
        read(&self.device(device).join("device/numa_node"))?.parse().ok()
    }

    /// Names of the network interfaces of a port, which may be the only one.
    pub(super) fn interfaces(&self, device: &str, port: u8, only: bool) -> Vec<String> {
        let device = self.device(device);
        // One file for each GID: they are reached through the interface that it names.
        let of_gids = device.join(format!("ports/{port}/gid_attrs/ndevs"));
        let mut names: Vec<String> = Vec::new();
        for name in entries(&of_gids).iter().filter_map(|gid| read(&of_gids.join(gid))) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() {
            // A port that is down may have no GIDs. Its interface is on the same PCI function; where
            // that has several, `dev_port` counts them from 0.
            let of_function = device.join("device/net");
            names = entries(&of_function);
            let number = |name: &String| read(&of_function.join(name).join("dev_port"));
            names.retain(|name| only || number(name) == Some((u32::from(port) - 1).to_string()));
        }
        names
    }

    /// MAC address of a network interface.
    pub(super) fn mac_address(&self, interface: &str) -> Option<MacAddress> {
        read(&self.class.join("net").join(interface).join("address"))?.parse().ok()
    }

    fn device(&self, name: &str) -> PathBuf {
        self.class.join("infiniband").join(name)
    }
}

/// Names in a directory, in order.
fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// A file of one line. Those of empty GIDs answer with an error.
fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_device_is_described() {
        let directory = tempfile::tempdir().unwrap();
        let function = directory.path().join("pci0000:3a/0000:3b:00.0");
        let class = directory.path().join("class");
        let device = class.join("infiniband/mlx5_0");
        write(function.join("numa_node"), "1\n");
        for (gid, name) in [("0", "eth2\n"), ("1", "eth2\n"), ("2", "eth2.100\n"), ("3", "\n")] {
            write(device.join("ports/1/gid_attrs/ndevs").join(gid), name);
        }
        symlink(&function, device.join("device")).unwrap();
        write(class.join("net/eth2/address"), "02:fc:00:00:00:01\n");
        let sysfs = Sysfs { class };
        assert_eq!(sysfs.devices(), ["mlx5_0"]);
        assert_eq!(sysfs.pci("mlx5_0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(sysfs.numa_node("mlx5_0"), Some(1));
        assert_eq!(sysfs.interfaces("mlx5_0", 1, true), ["eth2", "eth2.100"]);
        assert_eq!(sysfs.mac_address("eth2"), Some(MacAddress([2, 0xfc, 0, 0, 0, 1])));
    }

    #[test]
    fn a_port_without_gids_has_the_interface_of_its_function() {
        let directory = tempfile::tempdir().unwrap();
        let sysfs = Sysfs { class: directory.path().to_owned() };
        let net = directory.path().join("infiniband/mlx4_0/device/net");
        write(net.join("eth4/dev_port"), "0\n");
        write(net.join("eth5/dev_port"), "1\n");
        assert_eq!(sysfs.interfaces("mlx4_0", 1, false), ["eth4"]);
        assert_eq!(sysfs.interfaces("mlx4_0", 2, false), ["eth5"]);
        assert_eq!(sysfs.interfaces("mlx4_0", 1, true), ["eth4", "eth5"]);
    }

    #[test]
    fn what_is_not_there_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let sysfs = Sysfs { class: directory.path().to_owned() };
        assert!(sysfs.devices().is_empty());
        assert_eq!(sysfs.pci("soft0"), None);
        assert_eq!(sysfs.interfaces("soft0", 1, true), [""; 0]);
        let device = directory.path().join("infiniband/rxe0");
        write(device.join("device/numa_node"), "-1\n");
        assert_eq!(sysfs.numa_node("rxe0"), None);
        // A directory, or a link to what is on another bus.
        assert_eq!(sysfs.pci("rxe0"), None);
        symlink("../../virtio2", directory.path().join("infiniband/v")).unwrap();
        assert_eq!(sysfs.pci("v"), None);
        write(directory.path().join("net/eth0/address"), "00:11\n");
        assert_eq!(sysfs.mac_address("eth0"), None);
    }
}
