//! A batch's header: what its seal covers, and the next header hashes: docs/protocol.md §3.3.

use super::Hash;
use super::ratchet::PublicKey;
use crate::identity::StreamId;

const DOMAIN: &[u8; 19] = b"edgetrail/batch/v1\n";

/// Bytes of an encoded header. Source: docs/protocol.md §3.3.
pub const HEADER_BYTES: usize = 264;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    Records = 0,
    /// Nothing happened, and somebody was there to say so.
    Heartbeat = 1,
    /// An orderly stop: nothing follows.
    Close = 2,
}

/// What a stream has seen since it began: docs/protocol.md §3.3.
///
/// At every head: `observed = refused + lost_agent + (records so far − own)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records after normalize and before selection.
    pub observed: u64,
    /// Those that selection turned away.
    pub refused: u64,
    /// The agent's own records: gaps, reports.
    pub own: u64,
    /// Counts of gaps over records already in `observed`.
    pub lost_agent: u64,
    /// Counts of all other gaps.
    pub lost_source: u64,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub stream: StreamId,
    pub k: u64,
    pub kind: BatchKind,
    /// Number of the first record; for an empty batch the next one's.
    pub first_seq: u64,
    pub count: u32,
    /// R_k: the Merkle tree hash over the records.
    pub root: Hash,
    /// H_{k-1}.
    pub previous: Hash,
    /// pk_{k+1}: checks the next batch's seal.
    pub next_key: PublicKey,
    pub boot_id: [u8; 16],
    /// Unix time in nanoseconds, host clock, like the two below.
    pub t_sealed: u64,
    /// First and last commit in the batch; zeros where it is empty.
    pub t_min: u64,
    pub t_max: u64,
    pub counters: Counters,
    /// SHA-256 of the last verified receipt's message; zeros before the first.
    pub last_receipt: Hash,
}

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a header is {HEADER_BYTES} bytes long, this one {bytes}")]
    Length { bytes: usize },
    #[error("the bytes do not begin as a batch header of version 1")]
    Domain,
    #[error("{0} is no kind of batch")]
    Kind(u8),
}

impl Header {
    /// H_k.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// The bytes that are hashed and sealed.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let Counters { observed, refused, own, lost_agent, lost_source } = self.counters;
        let mut out = Out::<HEADER_BYTES>::new();
        out.put(DOMAIN);
        out.put(self.stream.as_bytes());
        out.put(&self.k.to_be_bytes());
        out.put(&[self.kind as u8]);
        out.put(&self.first_seq.to_be_bytes());
        out.put(&self.count.to_be_bytes());
        out.put(&self.root.0);
        out.put(&self.previous.0);
        out.put(&self.next_key.0);
        out.put(&self.boot_id);
        for integer in [self.t_sealed, self.t_min, self.t_max, observed, refused, own, lost_agent, lost_source] {
            out.put(&integer.to_be_bytes());
        }
        out.put(&self.last_receipt.0);
        out.finish()
    }

    /// Reads a header without trusting it: [`super::Verifier`] judges.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut bytes = In::new::<HEADER_BYTES>(bytes).ok_or(HeaderError::Length { bytes: bytes.len() })?;
        if &bytes.take::<19>() != DOMAIN {
            return Err(HeaderError::Domain);
        }
        Ok(Self {
            stream: StreamId::from_bytes(bytes.take()),
            k: bytes.u64(),
            kind: match bytes.take::<1>()[0] {
                0 => BatchKind::Records,
                1 => BatchKind::Heartbeat,
                2 => BatchKind::Close,
                other => return Err(HeaderError::Kind(other)),
            },
            first_seq: bytes.u64(),
            count: u32::from_be_bytes(bytes.take()),
            root: Hash(bytes.take()),
            previous: Hash(bytes.take()),
            next_key: PublicKey(bytes.take()),
            boot_id: bytes.take(),
            t_sealed: bytes.u64(),
            t_min: bytes.u64(),
            t_max: bytes.u64(),
            counters: Counters {
                observed: bytes.u64(),
                refused: bytes.u64(),
                own: bytes.u64(),
                lost_agent: bytes.u64(),
                lost_source: bytes.u64(),
            },
            last_receipt: Hash(bytes.take()),
        })
    }
}

/// Writes fixed-width fields into exactly N bytes.
pub(super) struct Out<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Out<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    pub(super) fn put(&mut self, field: &[u8]) {
        self.bytes[self.filled..self.filled + field.len()].copy_from_slice(field);
        self.filled += field.len();
    }

    /// Proof that no slice above is out of range: every encoder is covered by a test that fills it to N.
    pub(super) fn finish(self) -> [u8; N] {
        debug_assert_eq!(self.filled, N, "every byte of the layout is written");
        self.bytes
    }
}

/// Reads fixed-width fields from bytes whose length was checked once.
pub(super) struct In<'a> {
    bytes: &'a [u8],
}

impl<'a> In<'a> {
    pub(super) fn new<const N: usize>(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() == N).then_some(Self { bytes })
    }

    /// Zeros when the bytes are used up, which no decoder reaches: the fields it takes add up to the N that `new` checked.
    pub(super) fn take<const M: usize>(&mut self) -> [u8; M] {
        match self.bytes.split_first_chunk::<M>() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; M],
        }
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}
