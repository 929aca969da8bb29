//! What a trail has decided to deliver, as its store keeps it.

use bytes::Bytes;
use edgetrail_proto::chain::Hash;

use crate::sinks::ObjectMeta;

/// In the place of a digestEndTime: the trail makes no digests.
pub(super) const NO_DIGEST: u64 = 0;

/// What a trail goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrailState {
    pub(super) logging: bool,
    /// Where the current window begins in the ledger; while logging is stopped, how far the ledger has been read.
    pub(super) from_index: u64,
    /// digestStartTime of the current window: the last digestEndTime, or when logging started. Unix seconds.
    pub(super) window_start: u64,
    /// Log files planned so far, over all accounts and regions: the counter in their names.
    pub(super) counter: u64,
    /// Unix nanoseconds.
    pub(super) started: Option<u64>,
    pub(super) stopped: Option<u64>,
}

/// One account and region of a trail: what its objects follow each other in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneState {
    pub(super) id: i64,
    pub(super) account: String,
    pub(super) region: String,
    /// Whether something of it was seen since logging started.
    pub(super) active: bool,
    /// Below this ledger_index, every record of the lane is in a planned file.
    pub(super) planned_to: u64,
    /// `None`: the next digest is a starting one.
    pub(super) previous: Option<PreviousDigest>,
}

/// What a digest says of the one before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct PreviousDigest {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) sha256: String,
    pub(super) signature: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Log = 0,
    Proof = 1,
    Digest = 2,
}

/// An object that will be, or was, delivered.
#[derive(Clone, Debug)]
pub(super) struct PlannedObject {
    /// Set by the store; the order of delivery within a lane.
    pub(super) id: i64,
    pub(super) lane: i64,
    pub(super) kind: ObjectKind,
    pub(super) bucket: String,
    pub(super) key: String,
    /// The range of the ledger, half-open.
    pub(super) from_index: u64,
    pub(super) to_index: u64,
    /// Unix nanoseconds.
    pub(super) planned: u64,
    /// Of the uncompressed bytes.
    pub(super) sha256: Hash,
    pub(super) records: u64,
    /// eventTimes, Unix seconds.
    pub(super) oldest: u64,
    pub(super) newest: u64,
    /// The digest that lists it or that it is: digestEndTime, Unix seconds. [`NO_DIGEST`] where there will be none.
    pub(super) window_end: Option<u64>,
    pub(super) meta: ObjectMeta,
    /// Compressed bytes; `None` for a log file, which the ledger holds.
    pub(super) body: Option<Bytes>,
}

/// One transaction.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) state: Option<TrailState>,
    pub(super) lanes: Vec<LaneState>,
    /// In the order in which they are to go out.
    pub(super) objects: Vec<PlannedObject>,
    /// Undigested files of these lanes are now listed by the digest of this end.
    pub(super) digested: Option<(Vec<i64>, u64)>,
}

/// A digest key's public half, kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicDigestKey {
    pub region: String,
    /// PKCS#1 RSAPublicKey.
    pub der_pkcs1: Vec<u8>,
    /// Lower-case hex MD5 of the DER.
    pub fingerprint: String,
    /// Unix seconds; the end is not included.
    pub not_before: u64,
    pub not_after: u64,
}
