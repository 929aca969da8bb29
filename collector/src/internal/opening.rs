//! How the internal stream goes on at start: from its key file, or as a visible successor. docs/protocol.md §3.5.

use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use edgetrail_disk::KeyFile;
use edgetrail_proto::chain::{Binding, Cause, Counters, Hash, KeySlot, Open, Predecessor, Ratchet, Seed, Writer};
use edgetrail_proto::identity::{AccountId, AgentId, AgentIdentity, Region, StreamId};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{InternalError, unix_ns};
use crate::ledger::{Ledger, StreamInfo, StreamState};
use crate::pki::Authority;

/// Whose collector it is, and where it runs.
#[derive(Clone, Debug)]
pub struct Home {
    pub account: AccountId,
    pub region: Region,
    pub host: String,
}

/// The writing end of the internal stream, and what it stands on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) agent: AgentId,
    pub(super) stream: StreamId,
    pub(super) writer: Writer,
    pub(super) key_file: KeyFile,
    pub(super) last_receipt: Hash,
    /// Those of the head.
    pub(super) counters: Counters,
    pub(super) binding: Binding,
    pub(super) restored: Option<Restored>,
}

/// The key file knows more of a stream than the ledger: the ledger is an older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub stream: StreamId,
    /// The last batch that was committed once.
    pub to: u64,
}

/// Resumes the last internal stream where the key file and the ledger agree, else opens a successor that says why not.
pub(super) async fn resume_or_open(
    key_file: &Path,
    ledger: &Ledger,
    authority: &Authority,
    home: &Home,
) -> Result<Opened, InternalError> {
    let (mut key_file, slot) = KeyFile::open(ledger.medium(), key_file)?;
    let streams = ledger.internal_streams()?;
    let former = streams.last();
    let binding = Binding::all(&home.host).map_err(InternalError::Host)?;
    if let Some(former) = former
        && former.info.binding == binding
        && let Some(writer) = resume(former, slot.as_ref())
    {
        key_file.advance(&writer)?;
        let last_receipt = match former.head.k {
            Some(k) => ledger.receipt(writer.stream(), k)?.map_or(Hash::ZERO, |receipt| receipt.message_hash()),
            None => Hash::ZERO,
        };
        let agent = former.info.agent;
        let counters = former.head.counters;
        return Ok(Opened { agent, stream: writer.stream(), writer, key_file, last_receipt, counters, binding, restored: None });
    }

    let agent = former.map_or_else(|| AgentId::from_bytes(Uuid::new_v4().into_bytes()), |state| state.info.agent);
    let (cause, predecessor) = succession(&streams, slot.as_ref());
    // Whatever the slot is ahead of, its indexes were given out once: without a ledger no less than with an older one.
    let restored = slot.as_ref().filter(|slot| is_ahead(slot, &streams)).map(|slot| {
        let named = named_by(slot);
        Restored { stream: named.stream, to: named.k }
    });
    let stream = StreamId::from_bytes(Uuid::new_v4().into_bytes());
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(InternalError::Random)?;
    let ratchet = Ratchet::new(stream, 0, Seed(seed));
    let (key, chain) = certificate(authority, home, agent)?;
    let open = Open {
        stream,
        agent,
        first_key: ratchet.public_key(),
        predecessor,
        cause,
        t_opened: unix_ns().max(former.map_or(0, |state| state.info.open.t_opened)),
        binding: binding.hash(),
        certificate: chain.first().map_or(Hash::ZERO, |leaf| Hash::of(leaf)),
    };
    let open_bytes = Bytes::copy_from_slice(&open.encode());
    let open_signature = key.sign(&open_bytes).map_err(InternalError::Key)?.into();
    let certificate_chain = chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect();
    let writer = Writer::begin(&open, ratchet);
    let info = StreamInfo {
        stream,
        agent,
        open,
        open_bytes,
        open_signature,
        certificate_chain,
        binding: binding.clone(),
        internal: true,
    };
    ledger.record_open(info).await?;
    // From here on a crash finds an open without a slot, which is succeeded. The other way round it would find a slot of a
    // stream that the ledger does not know, as an older copy of the ledger is found.
    key_file.advance(&writer)?;
    tracing::info!(%stream, ?cause, "internal stream opened");
    Ok(Opened { agent, stream, writer, key_file, last_receipt: Hash::ZERO, counters: Counters::default(), binding, restored })
}

/// The table of docs/protocol.md §3.5, first two rows: n = K+1 with the same head, or n = K and one ratchet step is missing.
fn resume(state: &StreamState, slot: Option<&KeySlot>) -> Option<Writer> {
    let slot = slot.filter(|slot| slot.stream == state.info.stream)?;
    if state.head.closed || state.superseded_by.is_some() || state.is_frozen() {
        return None;
    }
    let ratchet = Ratchet::new(slot.stream, slot.next_k, slot.seed.clone());
    let due = state.head.k.map_or(Some(0), |k| k.checked_add(1))?;
    let ratchet = if slot.next_k == due {
        (slot.head == state.head.hash).then_some(ratchet)?
    } else if slot.next_k.checked_add(1) == Some(due) {
        ratchet.next()
    } else {
        return None;
    };
    // Whatever the slot says, only the key that the head announces may seal the next batch.
    (ratchet.public_key() == state.head.next_key).then(|| Writer::resume(state.head.hash, state.head.next_seq, ratchet))
}

/// The last batch that the slot knows of.
fn named_by(slot: &KeySlot) -> Predecessor {
    let k = slot.next_k.checked_sub(1).unwrap_or(Predecessor::NO_BATCH);
    Predecessor { stream: slot.stream, k, hash: slot.head }
}

/// Whether the slot knows what the ledger does not: a batch beyond the head of its stream, another one in its place, or a
/// stream that the ledger has neither on record nor named by a later one. The ledger is an older copy then, also where the
/// collector had closed its stream in the copy and begun another since.
fn is_ahead(slot: &KeySlot, streams: &[StreamState]) -> bool {
    let Some(state) = streams.iter().find(|state| state.info.stream == slot.stream) else {
        return !streams.iter().any(|state| state.info.open.predecessor.is_some_and(|named| named.stream == slot.stream));
    };
    let due = state.head.k.map_or(0, |k| k.saturating_add(1));
    slot.next_k > due || (slot.next_k == due && slot.head != state.head.hash)
}

/// The table of docs/protocol.md §3.5, the other rows. The slot is looked at first: whatever the ledger says of its last
/// stream, it says as of its own age.
fn succession(streams: &[StreamState], slot: Option<&KeySlot>) -> (Cause, Option<Predecessor>) {
    let Some(former) = streams.last() else {
        // A slot without a ledger: the ledger was lost or replaced.
        return match slot {
            Some(slot) => (Cause::BufferOrKeyLost, Some(named_by(slot))),
            None => (Cause::Join, None),
        };
    };
    if let Some(slot) = slot.filter(|slot| is_ahead(slot, streams)) {
        return (Cause::Rollback, Some(named_by(slot)));
    }
    let head = &former.head;
    let known = Predecessor { stream: former.info.stream, k: head.k.unwrap_or(Predecessor::NO_BATCH), hash: head.hash };
    (if head.closed { Cause::AfterClose } else { Cause::BufferOrKeyLost }, Some(known))
}

/// A certificate for this one open; its key signs the open and is dropped.
fn certificate(
    authority: &Authority,
    home: &Home,
    agent: AgentId,
) -> Result<(KeyPair, Vec<CertificateDer<'static>>), InternalError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(InternalError::Key)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(InternalError::Key)?;
    let request = authority.check_request(request.der()).map_err(InternalError::Certificate)?;
    let identity = AgentIdentity {
        trust_domain: authority.trust_domain().clone(),
        account: home.account,
        region: home.region.clone(),
        agent,
    };
    let chain = authority.issue_agent(&request, &identity, SystemTime::now()).map_err(InternalError::Certificate)?;
    Ok((key, chain))
}
