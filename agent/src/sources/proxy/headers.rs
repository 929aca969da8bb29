//! A head on its way: what may not be passed on, and what the service is told of the connection.
//!
//! hyper has read the message and writes it anew, so that two readers can't disagree about where it ends. What was
//! written so that they might is refused, not repaired. Source: RFC 9110 §7.6.1, RFC 9112 §6.3, RFC 9113 §8.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version};

use super::config::Network;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("the request says its length twice, by Content-Length and by Transfer-Encoding")]
    TwoLengths,
    #[error("the request has a Transfer-Encoding that is not `chunked`")]
    TransferEncoding,
    #[error("the request names several hosts, or none")]
    Host,
    #[error("CONNECT asks for another proxy than this one")]
    Connect,
}

/// How the next hop is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http1,
    Http2,
}

/// What of the connection the service is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) peer: IpAddr,
    pub(super) is_tls: bool,
    /// Whether the peer is a proxy whose word stands.
    pub(super) is_trusted: bool,
}

/// Of one hop alone.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Refuses what two readers might read differently.
pub(super) fn check(parts: &Parts) -> Result<(), FramingError> {
    if parts.method == Method::CONNECT {
        return Err(FramingError::Connect);
    }
    let headers = &parts.headers;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(FramingError::TwoLengths);
        }
        if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(FramingError::TransferEncoding);
        }
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    let is_named = hosts == 1 || parts.uri.authority().is_some() || parts.version == Version::HTTP_10;
    if hosts > 1 || !is_named { Err(FramingError::Host) } else { Ok(()) }
}

/// The protocol that an HTTP/1 request asks the connection to become. HTTP/2 by upgrade is none: the service would read
/// requests from it that nobody has seen.
pub(super) fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    let asks = connection_options(&parts.headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let protocol = parts.headers.get(header::UPGRADE).filter(|_| asks && parts.version == Version::HTTP_11)?;
    let names = protocol.to_str().ok()?;
    let is_http = names.split(',').any(|name| {
        let name = name.trim().to_ascii_lowercase();
        name.starts_with("h2c") || name.starts_with("http/")
    });
    (!is_http).then(|| protocol.clone())
}

/// Makes a request's head the next hop's. `upgrade`: what the connection is asked to become.
pub(super) fn prepare(parts: &mut Parts, wire: Wire, told: Told, upgrade: Option<&HeaderValue>) {
    let takes_trailers = parts.headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    strip(&mut parts.headers);
    // Answered here: hyper says 100 Continue when the service begins to take the body.
    parts.headers.remove(header::EXPECT);
    let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let host = host.or_else(|| parts.headers.get(header::HOST).cloned()).unwrap_or_else(|| HeaderValue::from_static(""));
    tell(&mut parts.headers, told, &host);
    match wire {
        Wire::Http1 => {
            parts.headers.insert(header::HOST, host);
            join_cookies(&mut parts.headers);
            parts.uri = origin_form(&parts.uri);
            parts.version = Version::HTTP_11;
            if let Some(protocol) = upgrade {
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                parts.headers.insert(header::UPGRADE, protocol.clone());
            } else if takes_trailers {
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
                parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
        Wire::Http2 => {
            parts.headers.remove(header::HOST);
            parts.uri = absolute_form(&parts.uri, &host);
            parts.version = Version::HTTP_2;
            if takes_trailers {
                parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
    }
}

/// Takes away what is of one hop alone, also what Connection names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers).filter_map(|option| option.parse().ok()).collect();
    for name in named.iter().filter(|name| **name != header::HOST && **name != header::CONTENT_LENGTH) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

/// The client's address goes behind those that others noted; what a client says of protocol and host itself is replaced.
fn tell(headers: &mut HeaderMap, told: Told, host: &HeaderValue) {
    let mut list: Vec<String> =
        headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    list.push(told.peer.to_canonical().to_string());
    if let Ok(list) = HeaderValue::from_str(&list.join(", ")) {
        headers.insert(FORWARDED_FOR, list);
    }
    if !(told.is_trusted && headers.contains_key(&FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if told.is_tls { "https" } else { "http" }));
    }
    if !(told.is_trusted && headers.contains_key(&FORWARDED_HOST)) {
        headers.insert(FORWARDED_HOST, host.clone());
    }
}

/// HTTP/2 may send each cookie by itself. Source: RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(cookies) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookies);
    }
}

fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

fn absolute_form(uri: &Uri, host: &HeaderValue) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let whole = Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(path.clone()).build();
    whole.unwrap_or_else(|_| Uri::from(path))
}

/// The client's address: the connection's, or, where that is a trusted proxy's, the last one of X-Forwarded-For that is none.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> (IpAddr, bool) {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.holds(address));
    if !is_trusted(peer) {
        return (peer, false);
    }
    let values = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let list: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = peer;
    for noted in list.iter().rev() {
        let host = crate::sources::lines::address::host(noted);
        let Ok(address) = host.parse::<IpAddr>() else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    (client, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const TOLD: Told = Told { peer: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), is_tls: false, is_trusted: false };

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        let of = |headers: &[(&str, &str)]| check(&parts(Version::HTTP_11, "/", headers));
        assert_eq!(of(&[("host", "a")]), Ok(()));
        assert_eq!(of(&[("host", "a"), ("transfer-encoding", "Chunked")]), Ok(()));
        for (headers, error) in [
            (&[("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")][..], FramingError::TwoLengths),
            (&[("host", "a"), ("transfer-encoding", "gzip, chunked")], FramingError::TransferEncoding),
            (
                &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                FramingError::TransferEncoding,
            ),
            (&[("host", "a"), ("transfer-encoding", "x")], FramingError::TransferEncoding),
            (&[("host", "a"), ("host", "b")], FramingError::Host),
            (&[], FramingError::Host),
        ] {
            assert_eq!(of(headers), Err(error), "{headers:?}");
        }
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_the_service_is_told_who_connected() {
        let headers = [
            ("host", "shop.example"),
            ("connection", "keep-alive, x-private, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        let mut head = parts(Version::HTTP_11, "http://other.example/a?b", &headers);
        prepare(&mut head, Wire::Http1, TOLD, None);
        let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((value("host"), head.uri.to_string()), (Some("other.example"), "/a?b".to_owned()));
        assert_eq!((value("connection"), value("te")), (Some("te"), Some("trailers")));
        assert_eq!((value("cookie"), value("content-length")), (Some("a=1; b=2"), Some("3")));
        assert_eq!((value("x-forwarded-for"), value("x-forwarded-proto")), (Some("192.0.2.1, 127.0.0.1"), Some("http")));
        for gone in ["x-private", "keep-alive", "upgrade", "expect"] {
            assert_eq!(value(gone), None, "{gone}");
        }
        let mut head = parts(Version::HTTP_2, "https://shop.example/a", &[("te", "trailers")]);
        prepare(&mut head, Wire::Http2, Told { is_trusted: true, is_tls: true, ..TOLD }, None);
        assert_eq!((head.uri.to_string().as_str(), head.headers.get("host")), ("http://shop.example/a", None));
        assert!(head.headers["te"] == "trailers" && head.headers["x-forwarded-proto"] == "https");
    }

    #[test]
    fn only_other_protocols_than_http_are_upgraded_to() {
        let of = |protocol: &str, connection: &str| {
            upgrade(&parts(Version::HTTP_11, "/", &[("upgrade", protocol), ("connection", connection)])).is_some()
        };
        assert!(of("websocket", "keep-alive, Upgrade"));
        assert!(
            !of("websocket", "keep-alive")
                && !of("h2c", "upgrade")
                && !of("websocket, h2c", "upgrade")
                && !of("HTTP/2.0", "upgrade")
        );
    }

    #[test]
    fn an_address_is_believed_only_from_trusted_proxies() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let of = |peer: &str, list: &str| {
            let headers = parts(Version::HTTP_11, "/", &[("x-forwarded-for", list)]).headers;
            client(peer.parse().unwrap(), &headers, &trusted).0.to_string()
        };
        assert_eq!(of("192.0.2.9", "198.51.100.1"), "192.0.2.9");
        assert_eq!(of("10.0.0.1", "203.0.113.5, 198.51.100.1, 10.2.0.3"), "198.51.100.1");
        assert_eq!(of("127.0.0.1", "[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(of("10.0.0.1", "10.0.0.2"), "10.0.0.2");
        assert_eq!(of("10.0.0.1", "203.0.113.5, nonsense"), "10.0.0.1");
    }
}
