//! Which network interface a stream leaves through.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::InvalidValue;

/// A network interface, by its name or by one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InterfaceName {
    /// The name that the kernel gives it, such as `eth0`.
    Name(String),
    /// An address assigned to it.
    Address(IpAddr),
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // The address of one interface of several that have it, as link-local ones may be.
        if let Some((address, zone)) = text.split_once('%')
            && address.parse::<Ipv6Addr>().is_ok()
            && let Ok(Self::Name(_)) = zone.parse()
        {
            return Ok(Self::Name(text.to_owned()));
        }
        // The kernel's own rule: dev_valid_name() in net/core/dev.c.
        let character = |c: char| !c.is_whitespace() && !matches!(c, '/' | ':' | '\0');
        let valid = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(character);
        match valid && !matches!(text, "." | "..") {
            true => Ok(Self::Name(text.to_owned())),
            false => Err(InvalidValue::new(
                text,
                "a network interface",
                "write its name, such as eth0 (at most 15 bytes), or one of its addresses",
            )),
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// IFNAMSIZ less the terminating zero.
const MAX_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_or_address() {
        for text in ["eth0", "enp1s0f0np0", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(text.parse::<InterfaceName>().unwrap().to_string(), text);
        }
        for text in ["", "..", "a b", "eth0:1", "a/b", "sixteen-bytes-xx"] {
            let message = text.parse::<InterfaceName>().unwrap_err().to_string();
            assert!(message.contains("its name, such as eth0"), "{message}");
        }
    }
}
