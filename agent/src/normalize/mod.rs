//! Makes records of observations.
//!
//! The human first: a record's actor is the login user, whatever it runs as. Never a guess: what is not known is
//! `Unknown` or absent. Never nothing: what can't be understood becomes an `UnparsedObservation`.

pub mod audit;

pub mod journal;

pub mod posted;

pub mod names;

use edgetrail_proto::identity::{AccountId, AgentId, Region};
use edgetrail_proto::record::Record;

use crate::observation::Observation;

/// The host that records are made on, fixed for the life of the stream.
#[derive(Clone, Debug)]
pub struct Host {
    pub agent: AgentId,
    /// The host's name, as the stream is bound to it.
    pub name: String,
    pub account: AccountId,
    pub region: Region,
    /// ARN partition, `aws` unless configured.
    pub partition: String,
    /// Whether `additionalEventData.edgetrail.raw` holds the original observation.
    pub keep_raw: bool,
}

/// A record on its way to the buffer.
#[derive(Clone, Debug)]
pub struct Draft {
    pub record: Made,
    /// The act it reports, where two sources may report the same one.
    pub act: Option<Act>,
}

#[derive(Clone, Debug)]
pub enum Made {
    /// Made here: may still be redacted and cut.
    Record(Box<Record>),
    /// Made here and already written, within its limits: compact JSON that redaction rewrites only where it finds a secret.
    Written(Vec<u8>),
    /// Made elsewhere in CloudTrail's format: keeps its own bytes and identity.
    Foreign(Vec<u8>),
}

/// What tells that two observations are of one act: same class, same key, close in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Act {
    /// `sudo-command`, `login`, `create-user` …
    pub class: &'static str,
    pub key: String,
    /// Unix nanoseconds.
    pub time: u64,
}

/// All normalizers with the state they carry between observations.
#[derive(Debug)]
pub struct Normalizer {
    host: Host,
    audit: audit::Decoder,
    names: names::Names,
}

impl Normalizer {
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The records that an observation makes; none when it only adds to state (a login's address, half of an event).
    pub fn normalize(&mut self, observation: &Observation) -> Vec<Draft> {
        let _ = (&self.audit, &self.names, observation);
        Vec::new()
    }
}
