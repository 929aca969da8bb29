//! The canonical request: the one spelling of a request that both sides hash.
//!
//! Path: S3 signs the key, encoded once; every other service signs the normalised wire path, encoded again. Query:
//! decoded and encoded afresh, sorted. Headers: those that the claim names, values trimmed, runs of spaces folded
//! (spaces only: S3 and the SDKs leave tabs alone).

use http::HeaderMap;
use http::request::Parts;

use super::SigV4Error;
use super::claim::Claim;
use crate::percent::{self, Plus, Slash};

/// The query parameter that holds the signature itself and so is not signed.
const SIGNATURE_PARAMETER: &[u8] = b"X-Amz-Signature";

pub(super) fn is_signing_parameter(name: &[u8]) -> bool {
    name == SIGNATURE_PARAMETER
}

pub(super) fn canonical_request(claim: &Claim, head: &Parts, payload_hash: &str) -> Result<Vec<u8>, SigV4Error> {
    let path = if claim.is_s3() { s3_path(head.uri.path()) } else { other_path(head.uri.path()) };
    let mut text = Vec::with_capacity(1024);
    for line in [head.method.as_str(), &path, &canonical_query(head.uri.query().unwrap_or_default())] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    for name in &claim.signed_headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(&header_value(name, head)?);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(claim.signed_headers.join(";").as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload_hash.as_bytes());
    Ok(text)
}

/// Each segment decoded and encoded afresh, so that only the spelling of characters is evened out: an encoded slash
/// stays one.
fn s3_path(path: &str) -> String {
    let segment = |text: &str| percent::encode(&percent::decode(text.as_bytes(), Plus::Literal), Slash::Encode);
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn other_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    // RFC 3986 §5.2.4: a dot segment at the end leaves its slash.
    let ends_in_folder = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let trailing = if ends_in_folder && !segments.is_empty() { "/" } else { "" };
    percent::encode(format!("/{}{trailing}", segments.join("/")).as_bytes(), Slash::Keep)
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = percent::pairs(query)
        .filter(|(name, _)| !is_signing_parameter(name))
        .map(|(name, value)| (percent::encode(&name, Slash::Encode), percent::encode(&value, Slash::Encode)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn header_value(name: &str, head: &Parts) -> Result<Vec<u8>, SigV4Error> {
    if name == "host" {
        return host(head).ok_or_else(|| SigV4Error::Malformed("the request names no host".to_owned()));
    }
    folded(&head.headers, name).ok_or_else(|| SigV4Error::Malformed(format!("the signed header `{name}` is not in the request")))
}

/// HTTP/2 carries the host in `:authority`.
fn host(head: &Parts) -> Option<Vec<u8>> {
    folded(&head.headers, "host").or_else(|| head.uri.authority().map(|authority| authority.as_str().as_bytes().to_vec()))
}

fn folded(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let mut output: Option<Vec<u8>> = None;
    for value in headers.get_all(name) {
        let joined = match &mut output {
            Some(earlier) => {
                earlier.push(b',');
                earlier
            }
            None => output.insert(Vec::new()),
        };
        let words = value.as_bytes().split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                joined.push(b' ');
            }
            joined.extend_from_slice(word);
        }
    }
    output
}
