//! Where something listens for connections.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::InvalidValue;

/// Where something listens for connections, written `HOST:PORT`; `localhost:9912` is `127.0.0.1` and `[::1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl ListenAddress {
    /// All addresses that this is, the port being that of each.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            // A name server may say the same twice.
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || {
            let hint = "write HOST:PORT, such as localhost:9912, 0.0.0.0:9912 or [::]:9912";
            InvalidValue::new(text, "an address to listen at", hint)
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
            None if is_name(host) => host,
            _ => return Err(wrong()),
        };
        Ok(Self { host: host.into(), port })
    }
}

/// RFC 1123, 2.1, and underscores, which some have; addresses of IPv4 among them.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for text in ["localhost:9912", "127.0.0.1:0", "[::1]:9912", "host-1.example:1"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "foo", ":9912", "9912", "a:b", "::1:9912", "[foo]:1", "a b:1", "a:65536"] {
            let message = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(message.contains("localhost:9912"), "{message}");
        }
    }

    #[test]
    fn localhost_is_of_every_family_there_is() {
        let found = "localhost:9912".parse::<ListenAddress>().unwrap().resolve().unwrap();
        assert!(found.contains(&"127.0.0.1:9912".parse().unwrap()), "{found:?}");
        assert!(found.iter().all(|it| it.ip().is_loopback() && it.port() == 9912));
    }
}
