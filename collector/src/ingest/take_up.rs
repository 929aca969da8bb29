//! The evidence for a take-up: another collector's receipt, or an own one of before a restore, with the header it is for.

use edgetrail_link::receipt_keys::{ReceiptKeyError, ReceiptKeys};
use edgetrail_link::wire;
use edgetrail_proto::chain::{Header, HeaderError, Seal};

use crate::ledger::Evidence;

/// Why evidence proves nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeUpError {
    #[error("a take-up without evidence")]
    Nothing,
    #[error("the evidence's header can't be read")]
    Header(#[source] HeaderError),
    #[error("a seal is 64 bytes long, this one {bytes}")]
    SealLength { bytes: usize },
    #[error("the evidence's receipt is not of this home")]
    Receipt(#[source] ReceiptKeyError),
    #[error("the evidence's receipt is for another batch than its header")]
    OtherBatch,
}

/// Reads evidence and checks its receipt under the keys of this home.
pub(super) fn verify(take_up: &wire::TakeUp, keys: &ReceiptKeys) -> Result<Evidence, TakeUpError> {
    let evidence = take_up.evidence.as_ref().ok_or(TakeUpError::Nothing)?;
    let header = Header::decode(&evidence.header).map_err(TakeUpError::Header)?;
    let seal_length = TakeUpError::SealLength { bytes: evidence.seal.len() };
    let seal = Seal(evidence.seal.as_ref().try_into().map_err(|_| seal_length)?);
    let receipt = keys.verify(&evidence.receipt).map_err(TakeUpError::Receipt)?;
    Evidence::new(header, seal, receipt).ok_or(TakeUpError::OtherBatch)
}
