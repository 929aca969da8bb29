//! `edgetrail-verify fork`: whether exported evidence proves that two parties held one agent's state.
//!
//! What proves it: two different batches of one number under one key, which is used once and erased by whoever keeps the
//! rules; or two different successors of one stream, both signed by certificates of the agent; or a batch sealed in a stream
//! after its own agent had opened the next.

use edgetrail_proto::chain::{Hash, Head, Header, Open, PublicKey, Receipt, Seal, Verifier, verify_seal};
use edgetrail_proto::evidence::{Evidence, EvidenceBatch};
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::record::format_time;

use crate::opening::{self, Statement};
use crate::receipt_keys::ReceiptKeys;
use crate::steps::Steps;

/// A branch's batches as far as they could be read.
struct Branch {
    batches: Vec<(Header, Seal)>,
    records: u64,
}

/// Checks the evidence against the auditor's roots; all steps hold only if the fork is proven.
pub fn check(evidence: &Evidence, roots: &[Vec<u8>]) -> Steps {
    let mut steps = Steps::default();
    let opens = opens(evidence, roots, &mut steps);
    let committed = branch("first branch", &evidence.committed, &mut steps);
    let later = branch("later branch", &evidence.later, &mut steps);
    receipts(evidence, roots, &mut steps);
    steps.note("fork", proven(evidence, &opens, &committed, &later));
    steps
}

fn opens(evidence: &Evidence, roots: &[Vec<u8>], steps: &mut Steps) -> Vec<Open> {
    let mut opens = Vec::new();
    for stated in &evidence.opens {
        let certificates: Vec<Vec<u8>> = stated.certificate_chain.iter().map(|der| der.0.clone()).collect();
        let statement = Statement {
            open: &stated.open.0,
            binding: &stated.binding.0,
            signature: &stated.signature.0,
            certificate_chain: &certificates,
        };
        let found = match opening::check(&statement, roots) {
            Err((check, detail)) => Err(format!("{}: {detail}", check.says())),
            Ok(opened) if opened.open.agent.to_string() != evidence.agent_id => {
                Err(format!("stream {} is of agent {}, not {}", opened.open.stream, opened.open.agent, evidence.agent_id))
            }
            Ok(opened) => {
                let (id, time, host) = (opened.open.stream, format_time(opened.open.t_opened), opened.binding.host().to_owned());
                let vouched = if roots.is_empty() { "no CA given to check it" } else { "vouched for by the CA" };
                opens.push(opened.open);
                Ok(format!("stream {id} of host {host}, opened {time}, certificate {vouched}"))
            }
        };
        steps.note("open", found);
    }
    if evidence.opens.is_empty() {
        steps.note("open", Err("the evidence holds no open: nothing says whose keys these are".to_owned()));
    }
    opens
}

/// Reads a branch: batches linked to each other, each sealed under the key that the one before names, records under roots.
fn branch(name: &'static str, batches: &[EvidenceBatch], steps: &mut Steps) -> Branch {
    let mut read = Branch { batches: Vec::new(), records: 0 };
    let found = read_branch(batches, &mut read);
    let said = |read: &Branch| match (read.batches.first(), read.batches.last()) {
        (Some((first, _)), Some((last, _))) => format!(
            "batches {} to {} of stream {}, {} records at hand\nsealed {} to {}",
            first.k,
            last.k,
            first.stream,
            read.records,
            format_time(first.t_sealed),
            format_time(last.t_sealed)
        ),
        _ => "no batch".to_owned(),
    };
    steps.note(name, found.map(|()| said(&read)));
    read
}

fn read_branch(batches: &[EvidenceBatch], read: &mut Branch) -> Result<(), String> {
    let mut verifier: Option<Verifier> = None;
    for batch in batches {
        let header = Header::decode(&batch.header.0).map_err(|error| error.to_string())?;
        let seal =
            <[u8; 64]>::try_from(batch.seal.0.as_slice()).map(Seal).map_err(|_| "a seal is not 64 bytes long".to_owned())?;
        let head = match &verifier {
            // The first one's seal is checked under the key of the batch that both branches have.
            None => Head::after(&header, header.hash()),
            Some(verifier) => verifier.check_header(&header, &seal).map_err(|error| error.to_string())?,
        };
        if let Some(records) = &batch.records {
            let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(&record.0)).collect();
            Verifier::check_leaves(&header, &leaves).map_err(|error| error.to_string())?;
            read.records += leaves.len() as u64;
        }
        verifier = Some(Verifier::resume(head));
        read.batches.push((header, seal));
    }
    Ok(())
}

fn receipts(evidence: &Evidence, roots: &[Vec<u8>], steps: &mut Steps) {
    let keys = ReceiptKeys::stated(&evidence.receipt_keys, roots);
    for bytes in &evidence.receipts {
        let found = Receipt::decode(&bytes.0).map_err(|error| error.to_string()).and_then(|receipt| {
            let says = format!("batch {} of stream {}, received {}", receipt.k, receipt.stream, format_time(receipt.t_received));
            if keys.vouch_for(&receipt) { Ok(says) } else { Err(format!("no key that a root vouches for made it: {says}")) }
        });
        steps.note("receipt", found);
    }
}

/// What the evidence proves, or why it proves nothing.
fn proven(evidence: &Evidence, opens: &[Open], committed: &Branch, later: &Branch) -> Result<String, String> {
    if let (Some((first, first_seal)), Some((other, other_seal))) = (committed.batches.first(), later.batches.first())
        && (first.stream, first.k) == (other.stream, other.k)
    {
        if first.hash() == other.hash() {
            return Err(format!("both branches have the same batch {}: it was only sent twice", first.k));
        }
        let key = key_of(evidence, opens, first).ok_or_else(|| {
            format!("neither an open nor the common batch names the key of batch {}: the seals can't be checked", first.k)
        })?;
        for (name, header, seal) in [("first", first, first_seal), ("later", other, other_seal)] {
            if !verify_seal(&key, &header.hash(), seal) {
                return Err(format!("the {name} branch's batch {} is not sealed by the stream's key", header.k));
            }
        }
        return Ok(format!(
            "PROVEN: two different batches {} of stream {} carry a seal by one key that is used once:\n{}\n{}\ntwo parties held this agent's state",
            first.k,
            first.stream,
            first.hash(),
            other.hash()
        ));
    }
    for (at, one) in opens.iter().enumerate() {
        let Some(before) = one.predecessor else { continue };
        if let Some(other) =
            opens.iter().skip(at + 1).find(|other| other.stream != one.stream && same_predecessor(other, &before))
        {
            return Ok(format!(
                "PROVEN: stream {} has two successors, {} and {},\nboth signed by the agent's certificate: two parties held its state",
                before.stream, one.stream, other.stream
            ));
        }
    }
    for (header, _) in &later.batches {
        let superseding = opens.iter().find(|open| open.predecessor.is_some_and(|before| before.stream == header.stream));
        if let Some(open) = superseding.filter(|open| header.t_sealed > open.t_opened) {
            let key = key_of(evidence, opens, header);
            let sealed = later.batches.iter().find(|(other, _)| other.k == header.k).map(|(_, seal)| seal);
            if key.zip(sealed).is_some_and(|(key, seal)| verify_seal(&key, &header.hash(), seal)) {
                return Ok(format!(
                    "PROVEN: batch {} of stream {} was sealed {}, after the agent had opened {} behind that stream at {}",
                    header.k,
                    header.stream,
                    format_time(header.t_sealed),
                    open.stream,
                    format_time(open.t_opened)
                ));
            }
        }
    }
    Err("nothing in it shows two parties: no two batches of one number, no two successors, no batch sealed behind its stream's end"
        .to_owned())
}

fn same_predecessor(open: &Open, before: &edgetrail_proto::chain::Predecessor) -> bool {
    open.predecessor.is_some_and(|other| other.stream == before.stream)
}

/// The key that seals the batch: named by the open for batch 0, else by the batch before it, which its hash must name.
fn key_of(evidence: &Evidence, opens: &[Open], header: &Header) -> Option<PublicKey> {
    if header.k == 0 {
        return opens
            .iter()
            .find(|open| open.stream == header.stream && open.hash() == header.previous)
            .map(|open| open.first_key);
    }
    let before = evidence.common.iter().chain(&evidence.committed).chain(&evidence.later);
    let headers = before.filter_map(|batch| Header::decode(&batch.header.0).ok());
    headers.filter(|before| before.hash() == header.previous).map(|before| before.next_key).next()
}
