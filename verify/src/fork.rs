//! `edgetrail-verify fork`: whether exported evidence proves that two parties held one agent's state.
//!
//! What proves it: two different batches of one number under one key, which is used once and erased by whoever keeps the
//! rules; or two different successors of one stream, both signed by certificates of the agent; or a batch sealed in a stream
//! after its own agent had opened the next.

use std::collections::HashMap;

use edgetrail_proto::chain::{Cause, Hash, Head, Header, Open, PublicKey, Receipt, Seal, Verifier, verify_seal};
use edgetrail_proto::evidence::{Evidence, EvidenceBatch};
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::record::format_time;

use crate::opening;
use crate::receipt_keys::ReceiptKeys;
use crate::steps::Steps;

/// Batches that each name the one before.
#[derive(Default)]
struct Branch {
    batches: Vec<(Header, Seal)>,
    records: u64,
}

/// Checks the evidence against the auditor's roots; all steps hold only if the fork is proven.
pub fn check(evidence: &Evidence, roots: &[Vec<u8>]) -> Steps {
    let mut steps = Steps::default();
    let opens = opens(evidence, roots, &mut steps);
    let committed = branches("committed", &evidence.committed, &mut steps);
    let later = branches("later", &evidence.later, &mut steps);
    receipts(evidence, roots, &mut steps);
    steps.note("fork", proven(evidence, &opens, &committed, &later));
    steps
}

fn opens(evidence: &Evidence, roots: &[Vec<u8>], steps: &mut Steps) -> Vec<Open> {
    let mut opens = Vec::new();
    for stated in &evidence.opens {
        let found = match opening::check(&stated.into(), roots) {
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

/// Sorts batches into branches: each sealed under the key that the one before names, records under roots. The seal of a
/// branch's first batch is checked where its key is known.
fn branches(name: &'static str, batches: &[EvidenceBatch], steps: &mut Steps) -> Vec<Branch> {
    let mut all: Vec<Branch> = Vec::new();
    for batch in batches {
        if let Err(why) = add(batch, &mut all) {
            steps.note(name, Err(why));
        }
    }
    for Branch { batches, records } in &all {
        let (Some((first, _)), Some((last, _))) = (batches.first(), batches.last()) else { continue };
        let found = format!(
            "batches {} to {} of stream {}, {records} records at hand\nsealed {} to {}",
            first.k,
            last.k,
            first.stream,
            format_time(first.t_sealed),
            format_time(last.t_sealed)
        );
        steps.note(name, Ok(found));
    }
    all
}

fn add(batch: &EvidenceBatch, all: &mut Vec<Branch>) -> Result<(), String> {
    let header = Header::decode(&batch.header.0).map_err(|error| error.to_string())?;
    let seal = <[u8; 64]>::try_from(batch.seal.0.as_slice()).map(Seal).map_err(|_| "a seal is not 64 bytes long".to_owned())?;
    if let Some(records) = &batch.records {
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(&record.0)).collect();
        Verifier::check_leaves(&header, &leaves).map_err(|error| error.to_string())?;
    }
    let follows = |branch: &&mut Branch| branch.batches.last().is_some_and(|(last, _)| last.hash() == header.previous);
    let count = batch.records.as_ref().map_or(0, |records| records.len() as u64);
    match all.iter_mut().find(follows) {
        Some(branch) => {
            if let Some((last, _)) = branch.batches.last() {
                let verifier = Verifier::resume(Head::after(last, last.hash()));
                verifier.check_header(&header, &seal).map_err(|error| error.to_string())?;
            }
            branch.records += count;
            branch.batches.push((header, seal));
        }
        None => all.push(Branch { batches: vec![(header, seal)], records: count }),
    }
    Ok(())
}

/// A receipt adds who was told what; without its key it says nothing, and the fork does not hang on it.
fn receipts(evidence: &Evidence, roots: &[Vec<u8>], steps: &mut Steps) {
    let keys = ReceiptKeys::stated(&evidence.receipt_keys, roots);
    for bytes in &evidence.receipts {
        let found = Receipt::decode(&bytes.0).map_err(|error| error.to_string()).and_then(|receipt| {
            let says = format!("batch {} of stream {}, received {}", receipt.k, receipt.stream, format_time(receipt.t_received));
            match (keys.vouch_for(&receipt), keys.hashes().any(|key| *key == receipt.key)) {
                (true, _) => Ok(says),
                (false, true) => Err(format!("its key did not make it: {says}")),
                (false, false) => Ok(format!("{says}\nnot checked: no trusted key in the file is the one it names")),
            }
        });
        steps.note("receipt", found);
    }
}

/// What the evidence proves, or why it proves nothing.
fn proven(evidence: &Evidence, opens: &[Open], committed: &[Branch], later: &[Branch]) -> Result<String, String> {
    let mut why = None;
    let mut keys = Keys::of(opens, evidence.common.iter().chain(&evidence.committed));
    let at = |(header, seal): &'_ (Header, Seal)| ((header.stream, header.k), (header.clone(), *seal));
    let committed: HashMap<_, _> = committed.iter().flat_map(|branch| &branch.batches).map(at).collect();
    for branch in later {
        if let Err(not) = begins_at_a_known_key(&keys, branch) {
            why = Some(not);
            continue;
        }
        for (header, seal) in &branch.batches {
            let against = committed.get(&(header.stream, header.k));
            let found = against.map(|(first, first_seal)| two_batches(&keys, (first, first_seal), (header, seal)));
            let found = found.unwrap_or_else(|| sealed_behind_the_end(&keys, opens, header, seal));
            // The next of this branch is sealed by the key that this one names.
            keys.by_head.insert(header.hash(), header.next_key);
            match found {
                Ok(proven) => return Ok(proven),
                Err(not) => why = Some(not),
            }
        }
    }
    let nothing = || "no later batch and no second successor is in it".to_owned();
    two_successors(opens).ok_or_else(|| why.or_else(|| in_turn(opens)).unwrap_or_else(nothing))
}

/// A later branch counts from a batch that is sealed by a key which an open or what was committed names: behind it each
/// names the next, and none of its own may vouch for the first.
fn begins_at_a_known_key(keys: &Keys<'_>, branch: &Branch) -> Result<(), String> {
    let Some((first, seal)) = branch.batches.first() else { return Ok(()) };
    let k = first.k;
    let key = keys
        .key_of(first)
        .ok_or_else(|| format!("neither an open nor the common batch names the key of batch {k}: its seal can't be checked"))?;
    let is_sealed = verify_seal(&key, &first.hash(), seal);
    if is_sealed { Ok(()) } else { Err(format!("the later batch {k} is not sealed by the stream's key")) }
}

/// Two different batches of one number under one key, which is used once.
fn two_batches(keys: &Keys<'_>, first: (&Header, &Seal), later: (&Header, &Seal)) -> Result<String, String> {
    let (k, stream) = (first.0.k, first.0.stream);
    if first.0.hash() == later.0.hash() {
        return Err(format!("the same batch {k} was only sent twice"));
    }
    let key = keys
        .key_of(first.0)
        .ok_or_else(|| format!("neither an open nor the common batch names the key of batch {k}: the seals can't be checked"))?;
    for (name, (header, seal)) in [("committed", first), ("later", later)] {
        if !verify_seal(&key, &header.hash(), seal) {
            return Err(format!("the {name} batch {k} is not sealed by the stream's key"));
        }
    }
    let (one, other) = (first.0.hash(), later.0.hash());
    Ok(format!(
        "PROVEN: two different batches {k} of stream {stream} carry a seal by one key that is used once:\n{one}\n{other}\n\
         two parties held this agent's state"
    ))
}

/// A batch of a stream, sealed after its own agent had opened the next one.
fn sealed_behind_the_end(keys: &Keys<'_>, opens: &[Open], header: &Header, seal: &Seal) -> Result<String, String> {
    let Header { k, stream, .. } = header;
    let next = opens.iter().find(|open| open.predecessor.is_some_and(|before| before.stream == *stream));
    let next = next.ok_or_else(|| format!("no other batch {k} of stream {stream} and no open behind it is in the file"))?;
    if header.t_sealed <= next.t_opened {
        return Err(format!("batch {k} of stream {stream} was sealed before the next stream was opened: it is tail"));
    }
    let key = keys.key_of(header).ok_or_else(|| format!("nothing names the key of batch {k}: its seal can't be checked"))?;
    if !verify_seal(&key, &header.hash(), seal) {
        return Err(format!("batch {k} is not sealed by the stream's key"));
    }
    let (sealed, opened) = (format_time(header.t_sealed), format_time(next.t_opened));
    Ok(format!(
        "PROVEN: batch {k} of stream {stream} was sealed {sealed},\nafter the agent had opened {} behind that stream at {opened}",
        next.stream
    ))
}

/// Two streams that say they follow the same one, both signed by the agent's certificate.
fn two_successors(opens: &[Open]) -> Option<String> {
    for (at, one) in opens.iter().enumerate() {
        let Some(before) = one.predecessor else { continue };
        let other = opens.iter().skip(at + 1).find(|other| other.stream != one.stream && same_predecessor(other, &before));
        if let Some(other) = other {
            return Some(format!(
                "PROVEN: stream {} has two successors, {} and {},\nboth signed by the agent's certificate: two parties held its state",
                before.stream, one.stream, other.stream
            ));
        }
    }
    None
}

/// Streams opened in turn, each by one who did not know the one before: what a clone and its original leave that took
/// turns, and what a disk leaves that was restored twice. Only the collector saw that it was the former.
fn in_turn(opens: &[Open]) -> Option<String> {
    let unknowing = |open: &&Open| open.cause == Cause::RestoredBehindLater;
    let before = |open: &Open| opens.iter().find(|it| open.predecessor.is_some_and(|before| before.stream == it.stream));
    opens.iter().filter(unknowing).find_map(|last| {
        let middle = before(last).filter(unknowing)?;
        let first = middle.predecessor?.stream;
        let (middle, last) = (middle.stream, last.stream);
        Some(format!(
            "stream {middle} was opened by one who did not know {first},\nand {last} by one who did not know {middle}. \
             That it was the holder of {first}\nis the collector's word: a disk that was restored twice leaves the same opens"
        ))
    })
}

fn same_predecessor(open: &Open, before: &edgetrail_proto::chain::Predecessor) -> bool {
    open.predecessor.is_some_and(|other| other.stream == before.stream)
}

/// Keys that check seals, by what names them.
struct Keys<'a> {
    opens: &'a [Open],
    /// pk_{k+1}, by H_k.
    by_head: HashMap<Hash, PublicKey>,
}

impl<'a> Keys<'a> {
    fn of<'b>(opens: &'a [Open], batches: impl Iterator<Item = &'b EvidenceBatch>) -> Self {
        let headers = batches.filter_map(|batch| Header::decode(&batch.header.0).ok());
        Self { opens, by_head: headers.map(|header| (header.hash(), header.next_key)).collect() }
    }

    /// Named by the open for batch 0, else by the batch before it, which its hash must name.
    fn key_of(&self, header: &Header) -> Option<PublicKey> {
        if header.k > 0 {
            return self.by_head.get(&header.previous).copied();
        }
        let open = self.opens.iter().find(|open| open.stream == header.stream && open.hash() == header.previous);
        open.map(|open| open.first_key)
    }
}
