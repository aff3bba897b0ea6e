//! How long a packet may be.

use std::fmt;
use std::str::FromStr;

use super::{InvalidValue, Size};

/// The longest packet, in bytes of SPEAD (no Ethernet, IP or UDP headers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacketLimit {
    /// The largest size within the MTU for which all packets of a heap are equal.
    #[default]
    Auto,
    /// At most this many bytes, rounded down to a multiple of 8, as spead2 does.
    AtMost(u32),
}

impl FromStr for PacketLimit {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let bytes = || text.parse().ok().and_then(|size: Size| u32::try_from(size.bytes()).ok());
        match text {
            "auto" => Ok(Self::Auto),
            _ => bytes().map(Self::AtMost).ok_or_else(|| {
                InvalidValue::new(
                    text,
                    "a packet size",
                    "write auto or a number of bytes, such as 8972",
                )
            }),
        }
    }
}

impl fmt::Display for PacketLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::AtMost(bytes) => write!(f, "{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn auto_or_a_number() {
        assert_eq!("auto".parse(), Ok(PacketLimit::Auto));
        assert_eq!("8972".parse(), Ok(PacketLimit::AtMost(8972)));
        assert_eq!("8KiB".parse(), Ok(PacketLimit::AtMost(8192)));
        for text in ["big", "-1", "5GiB", ""] {
            let message = text.parse::<PacketLimit>().unwrap_err().to_string();
            assert!(
                message.ends_with("write auto or a number of bytes, such as 8972"),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes: u32) {
            let size = PacketLimit::AtMost(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
