//! One batch: from the wire's message to what the ledger commits.
//!
//! In the order of cost: sizes, header and seal, body, Merkle root; only then are the records looked into, and what is
//! wrong with one of them is noted beside it. Runs on a blocking thread.

use bytes::Bytes;
use edgetrail_link::body::{BODY_BYTES_MAX, BodyError, Decoder, Encoding, unframe};
use edgetrail_link::wire;
use edgetrail_proto::chain::{Binding, ChainError, Hash, Head, Header, HeaderError, Seal, Verifier};
use edgetrail_proto::limits::BATCH_BYTES_MAX;
use edgetrail_proto::merkle::leaf_hash;

use crate::ledger::{Bringer, EntryRecord, Incoming};

/// A batch as it came, its parts read.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) header: Header,
    pub(super) hash: Hash,
    pub(super) seal: Seal,
    encoding: Encoding,
    body: Bytes,
    body_bytes: u32,
    pub(super) caller_waits: bool,
    pub(super) bringer: Bringer,
}

/// Why a batch can't be committed: the sender's chain or the way to here is broken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("the batch's header can't be read")]
    Header(#[source] HeaderError),
    #[error("a seal is 64 bytes long, this one {bytes}")]
    SealLength { bytes: usize },
    #[error("the body's encoding {0} is of a later version")]
    Encoding(i32),
    #[error("the batch does not follow its chain")]
    Chain(#[source] ChainError),
    #[error("the batch's body can't be read")]
    Body(#[source] BodyError),
    #[error("the batch has {bytes} bytes of records; at most {BATCH_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
}

impl Received {
    pub(super) fn read(batch: wire::Batch, bringer: Bringer) -> Result<Self, BatchError> {
        let header = Header::decode(&batch.header).map_err(BatchError::Header)?;
        let seal_length = BatchError::SealLength { bytes: batch.seal.len() };
        let seal = Seal(batch.seal.as_ref().try_into().map_err(|_| seal_length)?);
        let encoding = Encoding::from_wire(batch.encoding).ok_or(BatchError::Encoding(batch.encoding))?;
        // Encoded longer than decoded may be: whoever compresses would have left it as it is.
        if batch.body.len() > BODY_BYTES_MAX {
            return Err(BatchError::Body(BodyError::TooLong { bytes: batch.body.len() }));
        }
        let hash = header.hash();
        let (body, body_bytes, caller_waits) = (batch.body, batch.body_bytes, batch.caller_waits);
        Ok(Self { header, hash, seal, encoding, body, body_bytes, caller_waits, bringer })
    }

    /// Checks the batch against the head before it; gives the head after it, and what is to be committed.
    pub(super) fn verify(
        self,
        verifier: &Verifier,
        binding: &Binding,
        decoder: &mut Decoder,
    ) -> Result<(Head, Incoming), BatchError> {
        let head = verifier.check_header(&self.header, &self.seal).map_err(BatchError::Chain)?;
        let records = self.records(decoder)?;
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record)).collect();
        Verifier::check_leaves(&self.header, &leaves).map_err(BatchError::Chain)?;
        let judged = records.into_iter().zip(leaves).map(|(record, leaf)| EntryRecord::judge(record, leaf, binding));
        let records = judged.collect();
        Ok((head, self.incoming(records)))
    }

    /// A batch whose place in the stream is taken: its own parts are checked, and the ledger says what it is.
    pub(super) fn verify_alone(self, binding: &Binding, decoder: &mut Decoder) -> Result<Incoming, BatchError> {
        let records = self.records(decoder)?;
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record)).collect();
        Verifier::check_leaves(&self.header, &leaves).map_err(BatchError::Chain)?;
        let judged = records.into_iter().zip(leaves).map(|(record, leaf)| EntryRecord::judge(record, leaf, binding));
        let records = judged.collect();
        Ok(self.incoming(records))
    }

    /// The records' bytes, sharing one decoded buffer.
    fn records(&self, decoder: &mut Decoder) -> Result<Vec<Bytes>, BatchError> {
        let announced = usize::try_from(self.body_bytes).unwrap_or(usize::MAX);
        let body = Bytes::from(decoder.decode(self.encoding, &self.body, announced).map_err(BatchError::Body)?);
        let records: Vec<Bytes> = unframe(&body)
            .map(|record| record.map(|record| body.slice_ref(record)))
            .collect::<Result<_, _>>()
            .map_err(BatchError::Body)?;
        let bytes = records.iter().map(Bytes::len).sum();
        if bytes > BATCH_BYTES_MAX { Err(BatchError::TooLong { bytes }) } else { Ok(records) }
    }

    fn incoming(self, records: Vec<EntryRecord>) -> Incoming {
        Incoming {
            bringer: self.bringer,
            header: self.header,
            hash: self.hash,
            seal: self.seal,
            encoding: self.encoding,
            body: self.body,
            body_bytes: self.body_bytes,
            records,
        }
    }
}
