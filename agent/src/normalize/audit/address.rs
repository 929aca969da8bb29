//! Socket addresses as the kernel dumps them: the bytes of a `struct sockaddr`, in hex.
//!
//! The family is in the host's byte order, little-endian on every architecture supported here; ports and IP addresses
//! are in network order. What is too short or of another family says so; nothing is guessed.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Inet {
        ip: Ipv4Addr,
        port: u16,
    },
    Inet6 {
        ip: Ipv6Addr,
        port: u16,
    },
    /// A path; an abstract name begins with `@`.
    Unix {
        path: String,
    },
    Netlink {
        port: u32,
    },
    Other {
        family: u16,
    },
}

/// Address families. Source: linux/socket.h.
const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;
const NETLINK: u16 = 16;

impl Address {
    /// None where the text is not hex or shorter than its family needs.
    pub fn parse(saddr: &str) -> Option<Self> {
        let bytes = hex::decode(saddr).ok()?;
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        match u16::from_le_bytes(*family) {
            INET => {
                let (port, rest) = rest.split_first_chunk::<2>()?;
                let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
                Some(Self::Inet { ip, port: u16::from_be_bytes(*port) })
            }
            INET6 => {
                let (port, rest) = rest.split_first_chunk::<2>()?;
                // Four bytes of flow information stand before the address.
                let ip = Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?);
                Some(Self::Inet6 { ip, port: u16::from_be_bytes(*port) })
            }
            UNIX => Some(Self::Unix { path: unix_path(rest) }),
            // Two bytes of padding stand before the port.
            NETLINK => Some(Self::Netlink { port: u32::from_le_bytes(*rest.get(2..)?.first_chunk::<4>()?) }),
            family => Some(Self::Other { family }),
        }
    }

    /// `ipv4`, `ipv6`, `unix`, `netlink` or the family's number.
    pub fn family(&self) -> String {
        match self {
            Self::Inet { .. } => "ipv4".to_owned(),
            Self::Inet6 { .. } => "ipv6".to_owned(),
            Self::Unix { .. } => "unix".to_owned(),
            Self::Netlink { .. } => "netlink".to_owned(),
            Self::Other { family } => family.to_string(),
        }
    }

    pub fn is_network(&self) -> bool {
        matches!(self, Self::Inet { .. } | Self::Inet6 { .. })
    }
}

/// What follows the first NUL is what lay in the caller's memory; a leading NUL marks an abstract name.
fn unix_path(bytes: &[u8]) -> String {
    let (prefix, name) = match bytes.split_first() {
        Some((0, name)) => ("@", name),
        _ => ("", bytes),
    };
    let end = memchr::memchr(0, name).unwrap_or(name.len());
    format!("{prefix}{}", String::from_utf8_lossy(name.get(..end).unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_family_is_read() {
        let parse = |text| Address::parse(text).unwrap();
        assert_eq!(parse("02000050A9FEA9FE0000000000000000"), Address::Inet { ip: Ipv4Addr::new(169, 254, 169, 254), port: 80 });
        assert_eq!(
            parse("0A00003500000000000000000000000000000000000000010000000000"),
            Address::Inet6 { ip: Ipv6Addr::LOCALHOST, port: 53 }
        );
        assert_eq!(parse("01002F6465762F6C6F670000D2CD"), Address::Unix { path: "/dev/log".into() });
        assert_eq!(parse("01000061620000"), Address::Unix { path: "@ab".into() });
        assert_eq!(parse("100000000700000000000000"), Address::Netlink { port: 7 });
        assert_eq!(parse("1D00"), Address::Other { family: 29 });
        assert_eq!((Address::parse("0200"), Address::parse("x"), Address::parse("")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9A-F]{0,80}") {
            let _ = Address::parse(&text);
        }
    }
}
