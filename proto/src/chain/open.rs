//! The signed statement that begins a stream: docs/protocol.md §3.2.

use super::Hash;
use super::ratchet::PublicKey;
use crate::identity::{AgentId, StreamId};

const DOMAIN: &[u8; 18] = b"edgetrail/open/v1\n";

/// Stands where an open names no stream before it.
const NO_STREAM: [u8; 16] = [0; 16];

/// Bytes of an encoded open. Source: docs/protocol.md §3.2.
pub const OPEN_BYTES: usize = 18 + 16 + 16 + 32 + 16 + 8 + 32 + 1 + 8 + 32 + 32;

/// Why a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent's first stream.
    Join = 0,
    /// An orderly stop ended the stream before.
    AfterClose = 1,
    BufferOrKeyLost = 2,
    /// The database holds less than was sealed.
    Rollback = 3,
    /// Re-joined after two branches of one stream were seen.
    Fork = 4,
    /// The collector knows a later stream of this agent than the agent does.
    RestoredBehindLater = 5,
}

/// The stream that this one follows, and its last batch as the agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    pub stream: StreamId,
    /// [`Predecessor::NO_BATCH`] when the stream was opened and never sealed a batch.
    pub k: u64,
    pub hash: Hash,
}

/// Who begins a stream, bound to what, after which stream, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub stream: StreamId,
    pub agent: AgentId,
    /// Checks the seal of batch 0.
    pub first_key: PublicKey,
    pub predecessor: Option<Predecessor>,
    pub cause: Cause,
    /// Unix time in nanoseconds, host clock.
    pub t_opened: u64,
    /// SHA-256 of the binding's bytes, which travel beside the open.
    pub binding: Hash,
    /// SHA-256 of the agent's leaf certificate, DER.
    pub certificate: Hash,
}

/// Why bytes are no open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("an open is {OPEN_BYTES} bytes long, this one {bytes}")]
    Length { bytes: usize },
    #[error("the bytes do not begin as an open of version 1")]
    Domain,
    #[error("{0} is no cause for an open")]
    Cause(u8),
    #[error("the open names no stream before it, but a batch of one")]
    Predecessor,
}

impl Predecessor {
    /// `prev_k` of a predecessor that never sealed a batch; `prev_H` is then its H_{-1}.
    pub const NO_BATCH: u64 = u64::MAX;
}

impl TryFrom<u8> for Cause {
    type Error = OpenError;

    fn try_from(byte: u8) -> Result<Self, OpenError> {
        Ok(match byte {
            0 => Self::Join,
            1 => Self::AfterClose,
            2 => Self::BufferOrKeyLost,
            3 => Self::Rollback,
            4 => Self::Fork,
            5 => Self::RestoredBehindLater,
            other => return Err(OpenError::Cause(other)),
        })
    }
}

impl Open {
    /// H_{-1}: what batch 0's header names as the head before it.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// The bytes that are signed and hashed.
    pub fn encode(&self) -> [u8; OPEN_BYTES] {
        let (prev_stream, prev_k, prev_hash) = match &self.predecessor {
            Some(p) => (*p.stream.as_bytes(), p.k, p.hash),
            None => (NO_STREAM, 0, Hash::ZERO),
        };
        let mut out = super::header::Out::<OPEN_BYTES>::new();
        out.put(DOMAIN);
        out.put(self.stream.as_bytes());
        out.put(self.agent.as_bytes());
        out.put(&self.first_key.0);
        out.put(&prev_stream);
        out.put(&prev_k.to_be_bytes());
        out.put(&prev_hash.0);
        out.put(&[self.cause as u8]);
        out.put(&self.t_opened.to_be_bytes());
        out.put(&self.binding.0);
        out.put(&self.certificate.0);
        out.finish()
    }

    /// Reads an open without trusting it: signature, certificate and binding are the caller's to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let mut bytes = super::header::In::new::<OPEN_BYTES>(bytes).ok_or(OpenError::Length { bytes: bytes.len() })?;
        if &bytes.take::<18>() != DOMAIN {
            return Err(OpenError::Domain);
        }
        let stream = StreamId::from_bytes(bytes.take());
        let agent = AgentId::from_bytes(bytes.take());
        let first_key = PublicKey(bytes.take());
        let prev_stream: [u8; 16] = bytes.take();
        let prev_k = bytes.u64();
        let prev_hash = Hash(bytes.take());
        let cause = Cause::try_from(bytes.take::<1>()[0])?;
        let named = Predecessor { stream: StreamId::from_bytes(prev_stream), k: prev_k, hash: prev_hash };
        let predecessor = match (prev_stream, prev_k, prev_hash) {
            (NO_STREAM, 0, Hash::ZERO) => None,
            // One open, one encoding: H_{-1} is the hash of these very bytes.
            (NO_STREAM, _, _) => return Err(OpenError::Predecessor),
            _ => Some(named),
        };
        let t_opened = bytes.u64();
        Ok(Self {
            stream,
            agent,
            first_key,
            predecessor,
            cause,
            t_opened,
            binding: Hash(bytes.take()),
            certificate: Hash(bytes.take()),
        })
    }
}
