//! Evidence of a fork: one JSON file that shows, with public keys alone, that two parties held one agent's state.
//!
//! A collector exports it; `edgetrail-verify fork` checks it offline; docs/protocol.md §9 names its members. Everything in it
//! is bytes that a hash, a seal or a signature covers. Reading checks form only; nothing of it is trusted yet.

use serde::{Deserialize, Serialize};

use crate::limits::BATCH_RECORDS_MAX;
use crate::proof::{Base64, ProofReceiptKey};

/// The form's version.
pub const EVIDENCE_VERSION: &str = "1";

/// Most batches of one branch that are read. Source: what a collector quarantines of a later branch is bounded below this.
pub const BRANCH_BATCHES_MAX: usize = 100_000;

/// Everything about one fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// [`EVIDENCE_VERSION`].
    pub version: String,
    pub agent_id: String,
    /// Unix nanoseconds: when the collector saw it.
    pub t_seen: u64,
    /// The opens of every stream in the branches, and of a second successor: each with what proves it.
    pub opens: Vec<EvidenceOpen>,
    /// The last batch that both branches have; `None` where they part at batch 0, behind one open.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub common: Option<EvidenceBatch>,
    /// What the ledger committed first, from the batch where the branches part.
    pub committed: Vec<EvidenceBatch>,
    /// What came later and was quarantined.
    pub later: Vec<EvidenceBatch>,
    /// Receipts that were given for the branches, message and signature.
    pub receipts: Vec<Base64>,
    pub receipt_keys: Vec<ProofReceiptKey>,
}

/// The statement that begins a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceOpen {
    pub open: Base64,
    pub binding: Base64,
    /// On the open, by the certificate's key.
    pub signature: Base64,
    /// DER, leaf first.
    pub certificate_chain: Vec<Base64>,
}

/// One sealed batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceBatch {
    pub header: Base64,
    pub seal: Base64,
    /// When it came, Unix nanoseconds; 0 where nobody knows any more.
    pub t_received: u64,
    /// The records' bytes in order; `None` where the collector no longer has them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub records: Option<Vec<Base64>>,
}

/// Why bytes are no evidence file.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("the file is not JSON of an evidence file's form")]
    Form(#[source] serde_json::Error),
    #[error("the evidence has version {0}, this program reads {EVIDENCE_VERSION}: use a newer one")]
    Version(String),
    #[error("a branch has more than {BRANCH_BATCHES_MAX} batches, or a batch more than {BATCH_RECORDS_MAX} records")]
    TooLarge,
}

impl Evidence {
    pub fn to_json(&self) -> Vec<u8> {
        // Proof: strings, numbers and lists of them in memory always serialise.
        #[expect(clippy::expect_used, reason = "see the proof above")]
        serde_json::to_vec(self).expect("evidence is JSON")
    }

    /// Reads evidence of this version.
    pub fn from_json(json: &[u8]) -> Result<Self, EvidenceError> {
        let evidence: Self = serde_json::from_slice(json).map_err(EvidenceError::Form)?;
        if evidence.version != EVIDENCE_VERSION {
            return Err(EvidenceError::Version(evidence.version));
        }
        let branches = [&evidence.committed, &evidence.later];
        let too_many = branches.iter().any(|branch| branch.len() > BRANCH_BATCHES_MAX);
        let too_large = |batch: &EvidenceBatch| batch.records.as_ref().is_some_and(|all| all.len() > BATCH_RECORDS_MAX);
        if too_many || branches.iter().any(|branch| branch.iter().any(too_large)) {
            return Err(EvidenceError::TooLarge);
        }
        Ok(evidence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn evidence() -> Evidence {
        let batch = || EvidenceBatch {
            header: vec![1].into(),
            seal: vec![2].into(),
            t_received: u64::MAX,
            records: Some(vec![b"{}".to_vec().into()]),
        };
        Evidence {
            version: EVIDENCE_VERSION.to_owned(),
            agent_id: "a".to_owned(),
            t_seen: 7,
            opens: Vec::new(),
            common: None,
            committed: vec![batch()],
            later: vec![batch()],
            receipts: Vec::new(),
            receipt_keys: Vec::new(),
        }
    }

    #[test]
    fn evidence_comes_back_as_it_was() {
        assert_eq!(Evidence::from_json(&evidence().to_json()).unwrap(), evidence());
    }

    #[test]
    fn other_versions_and_oversized_batches_are_refused() {
        let newer = Evidence { version: "2".to_owned(), ..evidence() };
        assert!(matches!(Evidence::from_json(&newer.to_json()), Err(EvidenceError::Version(_))));
        let mut large = evidence();
        large.later[0].records = Some(vec![Base64::default(); BATCH_RECORDS_MAX + 1]);
        assert!(matches!(Evidence::from_json(&large.to_json()), Err(EvidenceError::TooLarge)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert!(Evidence::from_json(&bytes).is_err());
        }
    }
}
