//! Globally unique identifiers of RDMA devices, as the published `ibverbs` reads them.

/// The identifier of each device, by its name.
pub struct Guids(Vec<(String, u64)>);

impl Guids {
    /// Of the devices that there are; none if they cannot be listed.
    pub fn read() -> Self {
        let Ok(list) = ibverbs::devices() else { return Self(Vec::new()) };
        let known = list.iter().filter_map(|device| {
            let name = device.name()?.to_string_lossy().into_owned();
            // ibverbs takes the GUID, which libibverbs has in network order, for the host's.
            let guid = device.guid().map_or(NONE, |guid| u64::from_be(guid.into()));
            Some((name, guid))
        });
        Self(known.collect())
    }

    /// The identifier of a device, as ibv_devinfo writes it.
    pub fn of_device(&self, name: &str) -> String {
        let guid = self.0.iter().find(|(known, _)| known == name).map_or(NONE, |(_, guid)| *guid);
        let groups: Vec<String> =
            (0..4).rev().map(|group| format!("{:04x}", (guid >> (16 * group)) as u16)).collect();
        groups.join(":")
    }
}

/// No device has this one (`ibv_get_device_guid(3)`).
const NONE: u64 = 0;

// A lost `[patch.crates-io]` fails to compile here: types of two crates are not equal.
const _: fn(ibverbs::ibv_access_flags) -> ibverbs_dl::ibv_access_flags = |flags| flags;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_in_groups() {
        let guids = Guids(vec![("mlx5_0".into(), 0x0200_00ff_fe00_0001)]);
        assert_eq!(guids.of_device("mlx5_0"), "0200:00ff:fe00:0001");
        assert_eq!(guids.of_device("mlx5_1"), "0000:0000:0000:0000");
    }
}
