//! Socket addresses as the kernel dumps them: the bytes of a `struct sockaddr`, in hex.
//!
//! The family is in the byte order of the host that wrote it, which the family itself tells: no family is above 255. Ports
//! and IP addresses are in network order. What is too short says so by being none; nothing is guessed.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

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
        groups: u32,
    },
    Packet {
        interface: u32,
        protocol: u16,
    },
    /// The kernel's crypto interface: `skcipher`, `cbc(aes)`.
    Crypto {
        kind: String,
        name: String,
    },
    /// Between a virtual machine and its host.
    Vsock {
        cid: u32,
        port: u32,
    },
    Other {
        family: u16,
    },
}

/// Address families with a layout of their own here. Source: linux/socket.h.
const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;
const NETLINK: u16 = 16;
const PACKET: u16 = 17;
const ALG: u16 = 38;
const VSOCK: u16 = 40;

/// Names of all families from 0 on. Source: the same.
const FAMILIES: &str = "unspecified unix ipv4 ax25 ipx appletalk netrom bridge atmpvc x25 ipv6 rose decnet netbeui security key netlink packet \
    ash econet atmsvc rds sna irda pppox wanpipe llc ib mpls can tipc bluetooth iucv rxrpc isdn phonet ieee802154 caif alg nfc \
    vsock kcm qipcrtr smc xdp mctp";

/// A reader of a structure's members, in the byte order of its host.
struct Members<'a> {
    rest: &'a [u8],
    is_little: bool,
}

impl Members<'_> {
    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Some(if self.is_little { u16::from_le_bytes(*bytes) } else { u16::from_be_bytes(*bytes) })
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(if self.is_little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    }

    /// In network order whatever the host's.
    fn network_u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }
}

impl Address {
    /// None where the text is not hex or shorter than its family needs.
    pub fn parse(saddr: &str) -> Option<Self> {
        let bytes = hex::decode(saddr).ok()?;
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let is_little = family[1] == 0;
        let family = if is_little { u16::from_le_bytes(*family) } else { u16::from_be_bytes(*family) };
        let mut members = Members { rest, is_little };
        match family {
            INET => {
                let port = members.network_u16()?;
                Some(Self::Inet { ip: Ipv4Addr::from(members.bytes::<4>()?), port })
            }
            INET6 => {
                let port = members.network_u16()?;
                let _flow = members.u32()?;
                Some(Self::Inet6 { ip: Ipv6Addr::from(members.bytes::<16>()?), port })
            }
            UNIX => Some(Self::Unix { path: unix_path(rest) }),
            NETLINK => {
                let _padding = members.u16()?;
                Some(Self::Netlink { port: members.u32()?, groups: members.u32().unwrap_or(0) })
            }
            PACKET => {
                let protocol = members.network_u16()?;
                Some(Self::Packet { interface: members.u32()?, protocol })
            }
            ALG => {
                let kind = text(&members.bytes::<14>()?);
                let _features = (members.u32()?, members.u32()?);
                Some(Self::Crypto { kind, name: text(members.rest) })
            }
            VSOCK => {
                let _reserved = members.u16()?;
                let port = members.u32()?;
                Some(Self::Vsock { cid: members.u32()?, port })
            }
            family => Some(Self::Other { family }),
        }
    }

    /// `ipv4`, `ipv6`, `unix` …, or the family's number.
    pub fn family(&self) -> String {
        let number = match self {
            Self::Inet { .. } => INET,
            Self::Inet6 { .. } => INET6,
            Self::Unix { .. } => UNIX,
            Self::Netlink { .. } => NETLINK,
            Self::Packet { .. } => PACKET,
            Self::Crypto { .. } => ALG,
            Self::Vsock { .. } => VSOCK,
            Self::Other { family } => *family,
        };
        FAMILIES.split_whitespace().nth(usize::from(number)).map_or_else(|| number.to_string(), str::to_owned)
    }

    pub fn is_network(&self) -> bool {
        matches!(self, Self::Inet { .. } | Self::Inet6 { .. })
    }

    /// As requestParameters.target has it.
    pub fn describe(&self) -> Value {
        let family = self.family();
        match self {
            Self::Inet { ip, port } => json!({"family": family, "address": ip.to_string(), "port": port}),
            Self::Inet6 { ip, port } => json!({"family": family, "address": ip.to_string(), "port": port}),
            Self::Unix { path } => json!({"family": family, "path": path}),
            Self::Netlink { port, groups: 0 } => json!({"family": family, "port": port}),
            Self::Netlink { port, groups } => json!({"family": family, "port": port, "groups": groups}),
            Self::Packet { interface, protocol } => json!({"family": family, "interface": interface, "protocol": protocol}),
            Self::Crypto { kind, name } => json!({"family": family, "type": kind, "name": name}),
            Self::Vsock { cid, port } => json!({"family": family, "cid": cid, "port": port}),
            Self::Other { .. } => json!({"family": family}),
        }
    }
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

/// What follows the first NUL is what lay in the caller's memory; a leading NUL marks an abstract name.
fn unix_path(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((0, name)) => format!("@{}", text(name)),
        _ => text(bytes),
    }
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
        assert_eq!(parse("100000000700000000000000"), Address::Netlink { port: 7, groups: 0 });
        assert_eq!(parse("1100000302000000"), Address::Packet { interface: 2, protocol: 3 });
        assert_eq!(parse("28000000D2040000FFFFFFFF"), Address::Vsock { cid: u32::MAX, port: 1234 });
        assert_eq!(parse("1D00"), Address::Other { family: 29 });
        assert_eq!((parse("1D00").family(), parse("FF00").family()), ("can".to_owned(), "255".to_owned()));
        assert_eq!((Address::parse("0200"), Address::parse("x"), Address::parse("")), (None, None, None));
    }

    #[test]
    fn a_big_endian_host_says_so_by_its_family() {
        assert_eq!(Address::parse("00020050C0000201"), Some(Address::Inet { ip: Ipv4Addr::new(192, 0, 2, 1), port: 80 }));
        assert_eq!(Address::parse("001000000000000700000001"), Some(Address::Netlink { port: 7, groups: 1 }));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9A-F]{0,80}") {
            if let Some(address) = Address::parse(&text) {
                let _ = address.describe();
            }
        }
    }
}
