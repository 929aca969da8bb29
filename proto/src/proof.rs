//! The proof file: what takes a record of a log file back to the host that sealed it.
//!
//! One per digest, JSON, compressed by the caller. Everything in it is bytes that a hash or a signature covers, or
//! follows from such bytes. Reading checks form only; the chain's own types check the rest.

use serde::{Deserialize, Serialize};

use crate::chain::Hash;
use crate::limits::BATCH_RECORDS_MAX;

/// The form's version.
pub const PROOF_VERSION: &str = "1";

/// The proof for one account, region and window of a trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// [`PROOF_VERSION`].
    pub version: String,
    pub aws_account_id: String,
    pub aws_region: String,
    pub digest_start_time: String,
    pub digest_end_time: String,
    /// The window in the ledger: half-open, in ledger indexes.
    pub ledger_from: u64,
    pub ledger_to: u64,
    /// Every stream bound to this account and region with a batch in the window.
    pub streams: Vec<ProofStream>,
    pub receipt_keys: Vec<ProofReceiptKey>,
    /// In ledger order.
    pub batches: Vec<ProofBatch>,
    /// Receipts as sent: message and signature.
    pub receipts: Vec<Base64>,
}

/// How a stream began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofStream {
    pub stream_id: String,
    /// The open's bytes.
    pub open: Base64,
    /// The binding's bytes, whose hash the open holds.
    pub binding: Base64,
    /// On the open, by the certificate's key.
    pub signature: Base64,
    /// DER, leaf first.
    pub certificate_chain: Vec<Base64>,
    /// The collector's own stream.
    pub internal: bool,
    /// The last batch before the window; `None` where batch 0 is in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub take_up: Option<ProofTakeUp>,
    /// In the window: where the stream goes on behind batches that were lost with the collector that held them, each with
    /// the last batch that was lost and the receipt that names it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resumed: Vec<ProofTakeUp>,
}

/// Where a stream is taken up whose earlier batches the reader was not shown: its last batch before the window, with
/// the receipt that names it. docs/protocol.md §6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofTakeUp {
    pub header: Base64,
    /// Message and signature.
    pub receipt: Base64,
}

/// A key that receipts are signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofReceiptKey {
    /// Raw Ed25519.
    pub public_key: Base64,
    /// Unix nanoseconds.
    pub not_before: u64,
    pub not_after: u64,
    /// By the CA.
    pub ca_signature: Base64,
}

/// One batch committed in the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofBatch {
    pub ledger_index: u64,
    /// Commit time, Unix nanoseconds.
    pub t_received: u64,
    pub header: Base64,
    pub seal: Base64,
    /// All leaf hashes in order, joined; present where a record of the batch is in the window's files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaves: Option<Base64>,
    /// One [`Mark`] for each leaf.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub marks: Option<String>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// In a log file of this account and region.
    Delivered,
    /// In a log file under another account or region.
    Elsewhere,
    /// Not selected by the trail.
    Unselected,
    Quarantined,
}

/// Bytes, as standard base64 with padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base64(pub Vec<u8>);

/// Why bytes are no proof file.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("the proof is not JSON of a proof's form")]
    Form(#[source] serde_json::Error),
    #[error("the proof has version {0}, this program reads {PROOF_VERSION}: use a newer one")]
    Version(String),
    #[error("batch {ledger_index} has leaves and marks that do not agree in number, or more than a batch holds")]
    Leaves { ledger_index: u64 },
    #[error("batch {ledger_index} has a mark that is none of d, e, u, q")]
    Mark { ledger_index: u64 },
}

impl Proof {
    /// The bytes that the digest's `edgetrailProof` hashes, uncompressed.
    pub fn to_json(&self) -> Vec<u8> {
        // Proof: strings, numbers and lists of them in memory always serialise.
        #[expect(clippy::expect_used, reason = "see the proof above")]
        serde_json::to_vec(self).expect("a proof is JSON")
    }

    /// Reads a proof of this version and checks that leaves and marks fit together; nothing of it is trusted yet.
    pub fn from_json(json: &[u8]) -> Result<Self, ProofError> {
        let proof: Self = serde_json::from_slice(json).map_err(ProofError::Form)?;
        if proof.version != PROOF_VERSION {
            return Err(ProofError::Version(proof.version));
        }
        for batch in &proof.batches {
            batch.marked_leaves()?;
        }
        Ok(proof)
    }
}

impl ProofBatch {
    /// Sets leaves and marks; both or none are there.
    pub fn set_leaves(&mut self, leaves: &[(Hash, Mark)]) {
        self.leaves = Some(Base64(leaves.iter().flat_map(|(hash, _)| hash.0).collect()));
        self.marks = Some(leaves.iter().map(|(_, mark)| mark.as_char()).collect());
    }

    /// Leaf hashes in order, each with its mark; `None` where the file leaves them out.
    pub fn marked_leaves(&self) -> Result<Option<Vec<(Hash, Mark)>>, ProofError> {
        let ledger_index = self.ledger_index;
        let (leaves, marks) = match (&self.leaves, &self.marks) {
            (None, None) => return Ok(None),
            (Some(leaves), Some(marks)) => (leaves, marks),
            _ => return Err(ProofError::Leaves { ledger_index }),
        };
        let (hashes, rest) = leaves.0.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() > BATCH_RECORDS_MAX || hashes.len() != marks.chars().count() {
            return Err(ProofError::Leaves { ledger_index });
        }
        let pair = |(hash, mark): (&[u8; 32], char)| Mark::from_char(mark).map(|mark| (Hash(*hash), mark));
        let pairs: Option<Vec<_>> = hashes.iter().zip(marks.chars()).map(pair).collect();
        pairs.map(Some).ok_or(ProofError::Mark { ledger_index })
    }
}

impl Mark {
    pub const fn as_char(self) -> char {
        match self {
            Self::Delivered => 'd',
            Self::Elsewhere => 'e',
            Self::Unselected => 'u',
            Self::Quarantined => 'q',
        }
    }

    pub const fn from_char(mark: char) -> Option<Self> {
        match mark {
            'd' => Some(Self::Delivered),
            'e' => Some(Self::Elsewhere),
            'u' => Some(Self::Unselected),
            'q' => Some(Self::Quarantined),
            _ => None,
        }
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes.0)
    }
}

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self)
    }
}

impl From<Vec<u8>> for Base64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Base64 {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    fn proof(leaves: Option<&[u8]>, marks: Option<&str>) -> Proof {
        Proof {
            version: PROOF_VERSION.to_owned(),
            aws_account_id: "111122223333".to_owned(),
            aws_region: "dc-local-1".to_owned(),
            digest_start_time: "2024-05-01T00:00:00Z".to_owned(),
            digest_end_time: "2024-05-01T01:00:00Z".to_owned(),
            ledger_from: 0,
            ledger_to: u64::MAX,
            streams: Vec::new(),
            receipt_keys: Vec::new(),
            batches: vec![ProofBatch {
                ledger_index: 7,
                t_received: u64::MAX,
                header: vec![1].into(),
                seal: vec![2].into(),
                leaves: leaves.map(Base64::from),
                marks: marks.map(str::to_owned),
            }],
            receipts: vec![vec![3].into()],
        }
    }

    #[test]
    fn a_proof_comes_back_with_its_leaves_and_marks() {
        let all = [Mark::Delivered, Mark::Elsewhere, Mark::Unselected, Mark::Quarantined];
        let leaves: Vec<(Hash, Mark)> = all.into_iter().map(|mark| (leaf_hash(&[mark as u8]), mark)).collect();
        let mut written = proof(None, None);
        written.batches[0].set_leaves(&leaves);
        let read = Proof::from_json(&written.to_json()).unwrap();
        assert_eq!(read, written);
        assert_eq!(read.batches[0].marks.as_deref(), Some("deuq"));
        assert_eq!(read.batches[0].marked_leaves().unwrap().unwrap(), leaves);
    }

    #[test]
    fn a_batch_without_leaves_says_nothing_of_them() {
        let json = String::from_utf8(proof(None, None).to_json()).unwrap();
        assert!(!json.contains("leaves") && !json.contains("marks"), "{json}");
        assert_eq!(Proof::from_json(json.as_bytes()).unwrap().batches[0].marked_leaves().unwrap(), None);
    }

    #[test]
    fn leaves_and_marks_that_do_not_fit_together_are_refused() {
        let many = vec![0; 32 * (BATCH_RECORDS_MAX + 1)];
        let cases: [(Option<&[u8]>, Option<&str>); 6] = [
            (Some(&[0; 32]), None),
            (None, Some("d")),
            (Some(&[0; 64]), Some("d")),
            (Some(&[0; 32]), Some("dd")),
            (Some(&[0; 33]), Some("d")),
            (Some(&many), Some(&"d".repeat(BATCH_RECORDS_MAX + 1))),
        ];
        for (leaves, marks) in cases {
            let json = proof(leaves, marks).to_json();
            assert!(matches!(Proof::from_json(&json), Err(ProofError::Leaves { ledger_index: 7 })), "{marks:?}");
        }
        let json = proof(Some(&[0; 32]), Some("x")).to_json();
        assert!(matches!(Proof::from_json(&json), Err(ProofError::Mark { ledger_index: 7 })));
    }

    #[test]
    fn other_versions_and_bad_base64_are_refused() {
        let json = String::from_utf8(proof(None, None).to_json()).unwrap();
        let newer = json.replacen(r#""version":"1""#, r#""version":"2""#, 1);
        assert!(matches!(Proof::from_json(newer.as_bytes()), Err(ProofError::Version(version)) if version == "2"));
        let spoilt = json.replacen(r#""receipts":["Aw=="]"#, r#""receipts":["Aw"]"#, 1);
        assert!(matches!(Proof::from_json(spoilt.as_bytes()), Err(ProofError::Form(_))));
    }
}
