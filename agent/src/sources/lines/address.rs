//! Addresses as logs write them: with a port behind, in brackets, within ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address without its port: `192.0.2.1:80`, `[2001:db8::1]:80`. IPv4 within IPv6 is IPv4.
pub fn host(address: &str) -> &str {
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(host, _)| host);
    if let Some(host) = bracketed {
        return plain(host);
    }
    match address.rsplit_once(':') {
        Some((host, port)) if is_port(port) && address.parse::<Ipv6Addr>().is_err() && is_host(host) => plain(host),
        _ => plain(address),
    }
}

/// The same where a port always stands behind: an IPv6 address may stand before it without brackets.
pub fn host_before_port(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if is_port(port) && is_host(host) => plain(host.trim_start_matches('[').trim_end_matches(']')),
        _ => host(address),
    }
}

/// Whether an address lies within `10.0.0.0/8`, `2001:db8::/32`, or is the one given alone.
pub fn is_within(range: &str, address: &str) -> bool {
    let Some((network, bits)) = network(range) else { return false };
    match (network, address.parse::<IpAddr>()) {
        (IpAddr::V4(network), Ok(IpAddr::V4(address))) => {
            shifted(address.to_bits().into(), 32 - bits) == shifted(network.to_bits().into(), 32 - bits)
        }
        (IpAddr::V6(network), Ok(IpAddr::V6(address))) => {
            shifted(address.to_bits(), 128 - bits) == shifted(network.to_bits(), 128 - bits)
        }
        _ => false,
    }
}

/// A range's address and the bits of it that count; `None` where it is no range.
pub fn network(range: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = range.split_once('/').map_or((range, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

fn shifted(bits: u128, by: u32) -> u128 {
    bits.checked_shr(by).unwrap_or(0)
}

/// Whether an address is of no network but one's own.
pub fn is_private(address: &str) -> bool {
    const RANGES: &[&str] = &[
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1",
        "fc00::/7",
        "fe80::/10",
    ];
    RANGES.iter().any(|range| is_within(range, address))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_host(text: &str) -> bool {
    !text.contains(':') || text.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>().is_ok()
}

/// `::ffff:192.0.2.1` as `192.0.2.1`.
fn plain(host: &str) -> &str {
    let mapped = host.get(..7).filter(|start| start.eq_ignore_ascii_case("::ffff:")).and_then(|_| host.get(7..));
    mapped.filter(|inner| inner.parse::<Ipv4Addr>().is_ok()).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_port_is_told_from_a_part_of_an_address() {
        for (address, plain) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::1:51234", "::1"),
            ("::FFFF:192.0.2.1", "192.0.2.1"),
            ("db.example:5432", "db.example"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("", ""),
        ] {
            assert_eq!(host(address), plain, "{address}");
        }
        // A whole address by itself, but not where a port always stands behind.
        assert_eq!((host("2001:db8::1:3331"), host_before_port("2001:db8::1:3331")), ("2001:db8::1:3331", "2001:db8::1"));
    }

    #[test]
    fn ranges_hold_what_lies_within_them() {
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "10.0.0.1", false),
            ("::/0", "::1", true),
            ("10.0.0.0/33", "10.0.0.1", false),
            ("10.0.0.0/8", "no address", false),
        ] {
            assert_eq!(is_within(range, address), expected, "{range} {address}");
        }
        assert!(is_private("172.31.0.1") && is_private("fd00::1") && !is_private("172.32.0.1") && !is_private("2001:db8::1"));
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,20}|[\\[\\]:.0-9a-f]{0,30}", range in "[0-9a-f:./]{0,20}") {
            let _either = (host(&text), host_before_port(&text), is_within(&range, &text), is_private(&text));
        }
    }
}
