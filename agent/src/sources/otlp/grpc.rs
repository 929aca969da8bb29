//! gRPC's frame of one message. Source: grpc.io, gRPC over HTTP/2: a flag for compression, the length, the message.

use super::reply::Refusal;
use crate::sources::listener::{Body, Reader};

/// Bytes before a message.
const HEAD_BYTES: usize = 5;

/// The one message of a unary call.
pub(super) fn message(reader: &Reader, framed: &Body, encoding: Option<&str>) -> Result<Body, Refusal> {
    let broken = || Refusal::Invalid { message: "the call holds no whole message".to_owned() };
    let Some(([flag, length @ ..], message)) = framed.bytes.split_first_chunk::<HEAD_BYTES>() else { return Err(broken()) };
    if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(message.len()) {
        return Err(broken());
    }
    let message = framed.bytes.slice(HEAD_BYTES..);
    match flag {
        0 => Ok(reader.expand_part(message, None)?),
        1 => Ok(reader.expand_part(message, encoding)?),
        _ => Err(broken()),
    }
}

/// An empty message, framed.
pub(super) const EMPTY: &[u8] = &[0; HEAD_BYTES];
