//! The opaque NextToken: where the page ended, bound to the parameters it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgetrail_proto::identity::StreamId;
use sha2::{Digest, Sha256};

use super::chunk::Position;
use super::lookup::Query;

/// Version of the token, first byte.
const VERSION: u8 = 1;
/// version ‖ binding[16] ‖ time u64 ‖ stream[16] ‖ seq u64
const TOKEN_BYTES: usize = 1 + 16 + 8 + 16 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not one that this collector made")]
    Malformed,
    #[error("the token was made for other parameters")]
    OtherParameters,
}

pub(super) fn encode(query: &Query, last: Position) -> String {
    let mut token = Vec::with_capacity(TOKEN_BYTES);
    token.push(VERSION);
    token.extend_from_slice(&binding(query));
    token.extend_from_slice(&last.time.to_be_bytes());
    token.extend_from_slice(last.stream.as_bytes());
    token.extend_from_slice(&last.seq.to_be_bytes());
    URL_SAFE_NO_PAD.encode(token)
}

/// The position behind which the next page begins.
pub(super) fn decode(query: &Query, token: &str) -> Result<Position, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
    let (&[version], rest) = bytes.split_first_chunk::<1>().ok_or(TokenError::Malformed)?;
    let (bound, rest) = rest.split_first_chunk::<16>().ok_or(TokenError::Malformed)?;
    let (time, rest) = rest.split_first_chunk::<8>().ok_or(TokenError::Malformed)?;
    let (stream, rest) = rest.split_first_chunk::<16>().ok_or(TokenError::Malformed)?;
    let seq: [u8; 8] = rest.try_into().map_err(|_| TokenError::Malformed)?;
    if version != VERSION {
        return Err(TokenError::Malformed);
    }
    if *bound != binding(query) {
        return Err(TokenError::OtherParameters);
    }
    Ok(Position { time: u64::from_be_bytes(*time), stream: StreamId::from_bytes(*stream), seq: u64::from_be_bytes(seq) })
}

/// Of all parameters but the page's size and the token itself.
fn binding(query: &Query) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(query.wanted.account.as_bytes());
    add(query.wanted.region.as_bytes());
    for time in [query.from, query.to] {
        add(&time.map_or_else(Vec::new, |time| time.to_be_bytes().to_vec()));
    }
    for (attribute, value) in &query.wanted.attributes {
        add(attribute.name().as_bytes());
        add(value.as_bytes());
    }
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] = hash.finalize().into();
    head
}
