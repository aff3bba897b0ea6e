//! MAC addresses.

use std::{fmt, net::IpAddr, str::FromStr};

/// A 48-bit MAC address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address frames to a multicast `group` go to, with no neighbour to ask: `01:00:5e` and the
    /// low 23 bits of an IPv4 group ([RFC 1112, section 6.4](https://www.rfc-editor.org/rfc/rfc1112#section-6.4)),
    /// `33:33` and the low 32 bits of an IPv6 one
    /// ([RFC 2464, section 7](https://www.rfc-editor.org/rfc/rfc2464#section-7)). `None` if `group` is
    /// not a multicast address.
    pub fn of_multicast(group: IpAddr) -> Option<MacAddress> {
        match group.to_canonical() {
            IpAddr::V4(group) if group.is_multicast() => {
                let [_, b, c, d] = group.octets();
                Some(MacAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(group) if group.is_multicast() => {
                let [.., a, b, c, d] = group.octets();
                Some(MacAddress([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    /// Reads six two-digit hexadecimal bytes with colons, or hyphens, between them.
    fn from_str(text: &str) -> Result<MacAddress, MacAddressError> {
        let error = || MacAddressError { text: text.to_owned() };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let digits = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(error)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(MacAddress(bytes)) }
    }
}

/// A text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a MAC address: expected six two-digit hexadecimal bytes with colons between \
     them, such as 02:00:5e:10:00:01"
)]
#[non_exhaustive]
pub struct MacAddressError {
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn multicast(group: &str) -> Option<String> {
        MacAddress::of_multicast(group.parse().unwrap()).map(|mac| mac.to_string())
    }

    #[test]
    fn multicast_groups_have_addresses_of_their_own() {
        // The highest bit of the second byte is not carried over (RFC 1112): both share an address.
        assert_eq!(multicast("239.1.2.3").unwrap(), "01:00:5e:01:02:03");
        assert_eq!(multicast("239.129.2.3").unwrap(), "01:00:5e:01:02:03");
        assert_eq!(multicast("224.0.0.251").unwrap(), "01:00:5e:00:00:fb");
        assert_eq!(multicast("ff02::1:ff12:3456").unwrap(), "33:33:ff:12:34:56");
        assert_eq!(multicast("::ffff:239.1.2.3").unwrap(), "01:00:5e:01:02:03");
        for unicast in ["192.0.2.1", "255.255.255.255", "2001:db8::1", "240.0.0.1"] {
            assert_eq!(multicast(unicast), None, "{unicast}");
        }
    }

    #[test]
    fn addresses_are_read_or_refused_with_the_reason() {
        let mac = MacAddress([0x02, 0x00, 0x5e, 0xab, 0xcd, 0xef]);
        for text in ["02:00:5e:ab:cd:ef", "02:00:5E:AB:CD:EF", "02-00-5e-ab-cd-ef"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "02:00:5e:ab:cd",
            "02:00:5e:ab:cd:ef:01",
            "2:0:5e:ab:cd:ef",
            "02:00:5e:ab:cd:+f",
            "02:00:5e:ab-cd-ef",
            "02005eabcdef",
            "02:00:5e:ab:cd:e\u{e9}",
        ] {
            let error = text.parse::<MacAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a MAC address")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn from_str_undoes_display(bytes: [u8; 6]) {
            prop_assert_eq!(MacAddress(bytes).to_string().parse(), Ok(MacAddress(bytes)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<MacAddress>();
        }
    }
}
