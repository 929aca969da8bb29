//! `edgetrail-verify trail`: from all objects of a trail to the two verdicts.
//!
//! Nothing is taken on trust but the keys: everything is recomputed from the objects. Objects are read one at a time and
//! in order, so that memory does not grow with the trail.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::ProofRef;
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::keys::{Kind, ObjectKey};
use edgetrail_proto::proof::Proof;

use crate::digests::{self, ChainId, Loaded, check_link, missing_time};
use crate::gzip::unpack;
use crate::keys::Keys;
use crate::lanes::Lanes;
use crate::logs::{self, AgentReport, Reported};
use crate::receipts::Receipts;
use crate::report::{Check, Report};
use crate::store::{Place, Store, StoreError};
use crate::streams::{Delivered, Shown, Streams};

/// What part of the trail is judged. Unix nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Digests that end at or before it are passed over.
    pub from: Option<u64>,
    /// Digests that end after it are passed over.
    pub to: Option<u64>,
    /// The newest digest must not end before it.
    pub as_of: Option<u64>,
    /// The present: the newest digest must not be older than its own window and [`DELIVERY_GRACE`].
    pub now: Option<u64>,
}

/// How long after a window's end its digest may take to be delivered. Source: CloudTrail's own cadence of log files.
pub const DELIVERY_GRACE: Duration = Duration::from_secs(5 * 60);

/// A log file's key names the minute of its delivery: it was delivered at most this long after.
const KEY_MINUTE: Duration = Duration::from_secs(60);

/// Told as the work goes on, for a progress line.
pub trait Progress {
    fn digest(&mut self, done: usize, of: usize);
}

/// All objects of a trail, sorted by what they are.
#[derive(Debug, Default)]
struct Inventory {
    digests: BTreeMap<ChainId, BTreeMap<u64, Place>>,
    /// With their keys, where these are a log file's.
    logs: BTreeMap<Place, Option<ObjectKey>>,
    proofs: BTreeSet<Place>,
}

/// A log record's leaf and where it stands.
struct Found {
    leaf: Hash,
    file: usize,
    index: usize,
}

pub async fn verify(store: &Store, keys: &Keys, window: Window, progress: &mut dyn Progress) -> Result<Report, StoreError> {
    let mut report = Report::default();
    if keys.roots.is_empty() {
        report.find(Check::RootsNotGiven, "keys", "add the collector's CA with --ca to have them checked");
    }
    let mut inventory = Inventory::of(store.list().await?);
    let total = inventory.digests.values().map(BTreeMap::len).sum();
    let mut done = 0;
    let (mut lanes, mut receipts) = (Lanes::default(), Receipts::default());
    if total == 0 {
        report.find(Check::NoDigests, "the whole trail", "nothing can be said about anything in it");
    }
    for (chain, digests) in std::mem::take(&mut inventory.digests) {
        let mut walk = Walk {
            store,
            keys,
            chain: &chain,
            inventory: &mut inventory,
            streams: Streams::default(),
            receipts: &mut receipts,
            listed: BTreeSet::new(),
        };
        let mut previous: Option<Loaded> = None;
        for (end, place) in digests {
            done += 1;
            progress.digest(done, total);
            let inside = window.from.is_none_or(|from| end > from) && window.to.is_none_or(|to| end <= to);
            if !inside {
                walk.pass_over(&place).await?;
                continue;
            }
            report.seen.digests += 1;
            let Some(object) = store.get(&place).await? else {
                report.find(Check::DigestMissing, &place, "it vanished while it was read");
                continue;
            };
            let Some(loaded) = digests::load(&place, &object, keys, &mut report) else { continue };
            match &previous {
                Some(before) if loaded.begins_anew() => lanes.restart(&chain, before, &loaded),
                Some(before) => check_link(before, &loaded, &mut report),
                None => check_first(&loaded, window, &mut report),
            }
            if loaded.digest.previous_digest_signature.is_none() {
                walk.streams.begin_anew();
            }
            if walk.digest(&loaded, &mut lanes, &mut report).await? {
                lanes.stop(&chain, loaded.end);
            }
            previous = Some(loaded);
        }
        if let Some(newest) = &previous {
            lanes.holes(walk.streams.finish(&chain, newest.end, &mut report));
            lanes.newest(&chain, newest);
        }
    }
    receipts.judge(&mut report);
    let ends = lanes.judge(|length| window.due(length), &mut report);
    inventory.report_unlisted(&ends, &mut report);
    Ok(report)
}

/// The oldest digest seen must begin a chain, or the one it names lies before the window asked for.
fn check_first(first: &Loaded, window: Window, report: &mut Report) {
    let named = (&first.digest.previous_digest_s3_bucket, &first.digest.previous_digest_s3_object);
    if let (Some(bucket), Some(key)) = named
        && window.from.is_none_or(|from| first.start > from)
    {
        let named = Place { bucket: bucket.clone(), key: key.clone() };
        report.find(Check::DigestMissing, named, format_args!("named by {}", first.place));
        if let Some(from) = window.from {
            report.find(Check::DigestGap, &first.place, missing_time(from, first.start));
        }
    }
}

impl Window {
    /// When the newest digest of windows of this length must have ended at the earliest, where the auditor expects one.
    fn due(&self, length: u64) -> Option<u64> {
        self.as_of.max(self.now.map(|now| now.saturating_sub(length.saturating_add(nanoseconds(DELIVERY_GRACE)))))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

struct Walk<'a> {
    store: &'a Store,
    keys: &'a Keys,
    chain: &'a ChainId,
    inventory: &'a mut Inventory,
    streams: Streams,
    receipts: &'a mut Receipts,
    listed: BTreeSet<Place>,
}

impl Walk<'_> {
    /// Checks a digest's log files and proof; whether its trail was stopped in them.
    async fn digest(&mut self, loaded: &Loaded, lanes: &mut Lanes, report: &mut Report) -> Result<bool, StoreError> {
        let mut found = Vec::new();
        let mut stopped = false;
        let mut places = Vec::new();
        let mut reports = Vec::new();
        for listed in &loaded.digest.log_files {
            let place = Place { bucket: listed.s3_bucket.clone(), key: listed.s3_object.clone() };
            self.inventory.logs.remove(&place);
            if !self.listed.insert(place.clone()) {
                report.find(Check::LogTwice, &place, format_args!("again by {}", loaded.place));
            }
            report.seen.log_files += 1;
            let Some(object) = self.store.get(&place).await? else {
                report.find(Check::LogMissing, &place, format_args!("listed by {}", loaded.place));
                continue;
            };
            let Some(file) = logs::check(&place, &object, listed, &loaded.place, report) else { continue };
            let number = places.len();
            found.extend(file.leaves.iter().enumerate().map(|(index, leaf)| Found { leaf: *leaf, file: number, index }));
            stopped |= file.stopped.iter().any(|name| self.is_this_trail(name));
            let leaf = |own: &AgentReport| file.leaves.get(own.index).copied().unwrap_or(Hash::ZERO);
            reports.extend(file.reports.into_iter().map(|own| (leaf(&own), format!("record {} of {place}", own.index), own)));
            places.push(place);
        }
        let delivered = self.proof(loaded, report).await?;
        for (leaf, place, own) in reports {
            let proven = delivered.iter().flatten().find(|proven| proven.leaf == leaf);
            self.note(own, proven.map(|proven| proven.stream), &place, lanes, report);
        }
        if let Some(delivered) = delivered {
            compare(&found, &places, &delivered, report);
        }
        Ok(stopped)
    }

    /// What an agent or the collector reports of itself, and the stream whose seal covers the report.
    fn note(&mut self, own: AgentReport, stream: Option<StreamId>, place: &str, lanes: &mut Lanes, report: &mut Report) {
        let AgentReport { what, from, to, detail, .. } = own;
        let account = stream.and_then(|id| self.streams.stream_mut(id)).map(|stream| &mut stream.account);
        let check = match what {
            Reported::Rehomed { records } => {
                account.into_iter().for_each(|account| account.hour(from).rehomed += records);
                Check::Rehomed
            }
            Reported::Gap { cause, count } => {
                account.into_iter().for_each(|account| account.gap(&cause, count, from, to));
                Check::Gap
            }
            // Only a collector's own stream is bound to everything: an agent's word excuses no hole in another's stream.
            Reported::CollectorLost { stream, from_batch, to_batch } => {
                if account.is_some_and(|account| account.internal) {
                    lanes.reported_lost(stream, from_batch, to_batch, format!("{detail} ({place})"));
                }
                Check::Gap
            }
        };
        match stream {
            Some(stream) => report.find_in(stream, check, place, detail),
            None => report.find(check, place, detail),
        }
    }

    async fn proof(&mut self, loaded: &Loaded, report: &mut Report) -> Result<Option<Vec<Delivered>>, StoreError> {
        let Some(ProofRef { s3_bucket, s3_object, hash_value, .. }) = &loaded.digest.edgetrail_proof else {
            report.find(Check::ProofUnnamed, &loaded.place, "");
            return Ok(None);
        };
        let place = Place { bucket: s3_bucket.clone(), key: s3_object.clone() };
        self.inventory.proofs.remove(&place);
        report.seen.proofs += 1;
        let Some(object) = self.store.get(&place).await? else {
            report.find(Check::ProofMissing, &place, format_args!("named by {}", loaded.place));
            return Ok(None);
        };
        let unpacked = match unpack(&object.bytes) {
            Ok(unpacked) if unpacked.trailing == 0 => unpacked,
            Ok(unpacked) => {
                report.find(Check::ProofFormat, &place, format_args!("{} bytes follow the gzip stream", unpacked.trailing));
                return Ok(None);
            }
            Err(error) => {
                report.find(Check::ProofFormat, &place, error);
                return Ok(None);
            }
        };
        if Hash::of(&unpacked.bytes).to_hex() != *hash_value {
            report.find(Check::ProofHash, &place, format_args!("named by {}", loaded.place));
            return Ok(None);
        }
        match Proof::from_json(&unpacked.bytes) {
            Ok(proof) => {
                let shown = Shown { place: &place, chain: self.chain, proof: &proof, roots: &self.keys.roots };
                Ok(Some(self.streams.check(&shown, self.receipts, report)))
            }
            Err(error) => {
                report.find(Check::ProofFormat, &place, error);
                Ok(None)
            }
        }
    }

    /// Objects of a digest outside the window are listed, but not judged.
    async fn pass_over(&mut self, place: &Place) -> Result<(), StoreError> {
        let Some(object) = self.store.get(place).await? else { return Ok(()) };
        let mut unjudged = Report::default();
        if let Some(loaded) = digests::load(place, &object, self.keys, &mut unjudged) {
            for listed in &loaded.digest.log_files {
                self.inventory.logs.remove(&Place { bucket: listed.s3_bucket.clone(), key: listed.s3_object.clone() });
            }
            if let Some(proof) = &loaded.digest.edgetrail_proof {
                self.inventory.proofs.remove(&Place { bucket: proof.s3_bucket.clone(), key: proof.s3_object.clone() });
            }
        }
        Ok(())
    }

    /// StopLogging names its trail by name or ARN.
    fn is_this_trail(&self, name: &str) -> bool {
        name == self.chain.trail || name.rsplit_once(":trail/").is_some_and(|(_, trail)| trail == self.chain.trail)
    }
}

/// The window's records and the leaves that the proof says were delivered are the same, in the same order.
fn compare(found: &[Found], places: &[Place], delivered: &[Delivered], report: &mut Report) {
    let same_order = found.len() == delivered.len() && found.iter().zip(delivered).all(|(f, d)| f.leaf == d.leaf);
    if same_order {
        report.seen.records_proven += found.len() as u64;
        return;
    }
    let mut due: HashMap<Hash, Vec<&Delivered>> = HashMap::new();
    for leaf in delivered.iter().rev() {
        due.entry(leaf.leaf).or_default().push(leaf);
    }
    let mut all_proven = true;
    for Found { leaf, file, index } in found {
        if due.get_mut(leaf).and_then(Vec::pop).is_some() {
            report.seen.records_proven += 1;
        } else {
            all_proven = false;
            let place = places.get(*file).map(Place::to_string).unwrap_or_default();
            report.find(Check::RecordUnproven, format_args!("record {index} of {place}"), format_args!("leaf hash {leaf}"));
        }
    }
    let mut missing: Vec<&Delivered> = due.into_values().flatten().collect();
    missing.sort_by_key(|leaf| (leaf.stream, leaf.seq));
    for Delivered { leaf, stream, seq, .. } in &missing {
        let place = format_args!("seq {seq} of stream {stream}");
        report.find_in(*stream, Check::RecordMissing, place, format_args!("leaf hash {leaf}"));
    }
    if all_proven && missing.is_empty() {
        report.find(
            Check::LedgerOrder,
            places.first().map(Place::to_string).unwrap_or_default(),
            "records stand in another order",
        );
    }
}

impl Inventory {
    fn of(places: Vec<Place>) -> Self {
        let mut inventory = Self::default();
        for place in places {
            let Some(key) = ObjectKey::parse(&place.key) else {
                // No digest can list it, and a reader of the folder may take it for a log file.
                if place.key.split('/').any(|folder| folder.starts_with("CloudTrail")) {
                    inventory.logs.insert(place, None);
                }
                continue;
            };
            match key.kind {
                Kind::Digest => {
                    if let Some(chain) = ChainId::of_key(&key) {
                        inventory.digests.entry(chain).or_default().insert(key.time, place);
                    }
                }
                Kind::Proof => {
                    inventory.proofs.insert(place);
                }
                Kind::Log | Kind::Insight | Kind::NetworkActivity => {
                    inventory.logs.insert(place, Some(key));
                }
            }
        }
        inventory
    }

    /// What no digest lists or names, once all were read. `ends`: of the newest digest, by account and region.
    fn report_unlisted(&self, ends: &BTreeMap<(String, String), u64>, report: &mut Report) {
        for (place, key) in &self.logs {
            let pending = key.as_ref().is_some_and(|key| {
                let newest = ends.get(&(key.account.clone(), key.region.clone())).copied().unwrap_or(0);
                newest > 0 && key.time + nanoseconds(KEY_MINUTE) > newest
            });
            report.find(if pending { Check::LogPending } else { Check::LogUnlisted }, place, "");
        }
        for proof in &self.proofs {
            report.find(Check::ProofUnlisted, proof, "its digest is missing, or is being delivered just now: run again");
        }
    }
}
