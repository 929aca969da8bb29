//! Whose message it is: this host's or another's, by what carried it and by the name that it bears.

use std::net::IpAddr;

use crate::normalize::Host;
use crate::observation::SourceName;

/// How a message reached the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// The host's journal: it is this host's whatever name it bore when it was written.
    Journal,
    /// A file or a Unix socket: the name in the message is believed.
    Local(SourceName),
    /// A socket that anybody on the network can write to, and who did: never this host's.
    Network(SourceName, &'a str),
}

impl<'a> Carrier<'a> {
    /// Of a source's message: `peer` is who wrote it to a socket, as `udp://192.0.2.1:514`, or the file that it stood in.
    pub fn of(source: SourceName, peer: Option<&'a str>) -> Self {
        match (source, peer) {
            (SourceName::Syslog, Some(peer)) if peer.contains("://") => Self::Network(source, peer),
            // Not known who it was: not this host, then.
            (SourceName::Syslog, None) => Self::Network(source, ""),
            _ => Self::Local(source),
        }
    }

    pub(super) const fn source(self) -> SourceName {
        match self {
            Self::Journal => SourceName::Journal,
            Self::Local(source) | Self::Network(source, _) => source,
        }
    }

    /// The name of the other host whose message this is; none where it is this one's. `named` is what the message says.
    pub(super) fn elsewhere(self, host: &Host, named: Option<&str>) -> Option<String> {
        let others = named.filter(|name| !is_same(name, &host.name));
        match (self, others) {
            (Self::Journal, _) | (Self::Local(_), None) => None,
            (Self::Local(_), Some(name)) => Some(if is_name(name) { name } else { UNKNOWN }.to_owned()),
            (Self::Network(_, peer), name) => Some(name.filter(|name| is_name(name)).unwrap_or_else(|| address(peer)).to_owned()),
        }
    }
}

/// A host whose name is none.
const UNKNOWN: &str = "unknown";

/// Longest name. Source: RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;

/// Whether two names are of one host: where one of them lacks its domain, by the first label.
fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_end_matches('.'), other.trim_end_matches('.'));
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let label = long.split('.').next().unwrap_or_default();
    !short.is_empty() && !short.contains('.') && !is_address(short) && !is_address(long) && label.eq_ignore_ascii_case(short)
}

/// Whether a text can stand for a host within an ARN without posing as more of it.
fn is_name(name: &str) -> bool {
    let is_label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let is_plain = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_label);
    is_plain || name.parse::<IpAddr>().is_ok()
}

/// The address of `udp://192.0.2.1:514` and `tcp://[2001:db8::1]:514`.
fn address(peer: &str) -> &str {
    let peer = crate::sources::inlet::peer(peer).0;
    let peer = peer.split_once("://").map_or(peer, |(_, peer)| peer);
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host).trim_matches(['[', ']']);
    if is_name(host) { host } else { UNKNOWN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_stands_for_nobody() {
        let host = Host::for_tests();
        for name in ["db-7/user/root", "x:web-1", "", "a b", &"x".repeat(300)] {
            assert_eq!(Carrier::Local(SourceName::File).elsewhere(&host, Some(name)).as_deref(), Some(UNKNOWN), "{name}");
            let network = Carrier::of(SourceName::Syslog, Some("udp://192.0.2.1:514"));
            assert_eq!(network.elsewhere(&host, Some(name)).as_deref(), Some("192.0.2.1"), "{name}");
        }
        assert_eq!(Carrier::Local(SourceName::File).elsewhere(&host, Some("2001:db8::1")).as_deref(), Some("2001:db8::1"));
        let network = Carrier::of(SourceName::Syslog, Some("tls://[2001:db8::1]:514 CN=web: 1"));
        assert_eq!(network.elsewhere(&host, None).as_deref(), Some("2001:db8::1"));
        assert_eq!(Carrier::of(SourceName::Syslog, None).elsewhere(&host, None).as_deref(), Some(UNKNOWN));
        assert_eq!(Carrier::of(SourceName::Syslog, Some("unix")).elsewhere(&host, None), None);
        assert_eq!(Carrier::Journal.elsewhere(&host, Some("before-the-rename")), None);
    }
}
