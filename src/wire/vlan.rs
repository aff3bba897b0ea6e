//! Tags of virtual LANs.

/// An IEEE 802.1Q tag: which virtual LAN a frame belongs to, and its priority there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vlan {
    id: u16,
    priority: u8,
}

impl Vlan {
    /// A tag for VLAN `id` (1 to 4094) with `priority` (0 to 7, the tag's PCP).
    ///
    /// # Errors
    ///
    /// If either is out of range: 802.1Q gives ids 0 and 4095 other meanings.
    pub const fn new(id: u16, priority: u8) -> Result<Vlan, VlanError> {
        if id < 1 || id > 4094 {
            Err(VlanError::Id { id })
        } else if priority > 7 {
            Err(VlanError::Priority { priority })
        } else {
            Ok(Vlan { id, priority })
        }
    }

    /// The VLAN, 1 to 4094.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// The priority, 0 to 7; 0 unless somebody asked for more.
    pub const fn priority(self) -> u8 {
        self.priority
    }

    /// The tag control information, without the drop eligible bit.
    pub(super) const fn control(self) -> u16 {
        (self.priority as u16) << 13 | self.id
    }
}

/// A VLAN tag that 802.1Q does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VlanError {
    /// The VLAN id is reserved, or takes more than its 12 bits.
    #[error("VLAN id {id} is out of range: expected 1 to 4094")]
    Id {
        /// The id.
        id: u16,
    },
    /// The priority takes more than its 3 bits.
    #[error("VLAN priority {priority} is out of range: expected 0 to 7")]
    Priority {
        /// The priority.
        priority: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_ids_and_priorities_have_limits() {
        assert_eq!(Vlan::new(0, 0), Err(VlanError::Id { id: 0 }));
        assert_eq!(Vlan::new(4095, 0), Err(VlanError::Id { id: 4095 }));
        assert_eq!(Vlan::new(1, 8), Err(VlanError::Priority { priority: 8 }));
        assert!(Vlan::new(1, 0).is_ok() && Vlan::new(4094, 7).is_ok());
    }
}
