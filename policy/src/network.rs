//! Networks of addresses: `203.0.113.0/24`, `2001:db8::/32`, or one address.
//!
//! An IPv4 address that came through an IPv6 socket (`::ffff:a.b.c.d`) is the IPv4 address it stands for. Bits behind
//! the prefix do not count, as in IAM.

use std::net::IpAddr;

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// Bits behind the prefix are zero.
    first: u128,
    mask: u128,
    is_v4: bool,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let written: IpAddr = address.parse().ok()?;
        let width = if written.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= width)?
            }
            Some(_) => return None,
        };
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`; a shorter prefix holds other addresses than those that stand for IPv4.
        let canonical = written.to_canonical();
        let (address, prefix) = match prefix.checked_sub(96) {
            Some(rest) if written.is_ipv6() && canonical.is_ipv4() => (canonical, rest),
            _ => (written, prefix),
        };
        let (bits, width) = bits(address);
        // A shift by the whole width is no shift in the language, but the empty mask here.
        let mask = u128::MAX.checked_shl(width - prefix).unwrap_or(0);
        Some(Self { first: bits & mask, mask, is_v4: address.is_ipv4() })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.is_v4 && bits(address).0 & self.mask == self.first
    }
}

/// The address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_alone() {
        for (network, address, wanted) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.77/24", "203.0.113.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.2.3.4", true),
            ("::ffff:10.0.0.0/104", "10.2.3.4", true),
            ("::ffff:10.0.0.0/104", "11.2.3.4", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(Network::parse(network).unwrap().contains(address.parse().unwrap()), wanted, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_not_taken_for_one() {
        for text in [
            "",
            "*",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0.0/8/8",
            "010.0.0.1",
            "host",
            "10.0.0.0/-1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
