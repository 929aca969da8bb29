//! `edgetrail-verify record`: one record of one log file, followed back to the host that sealed it. docs/protocol.md §7.

use std::path::Path;

use edgetrail_proto::chain::{Hash, Header, Receipt};
use edgetrail_proto::facets::Facets;
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::keys::{Kind, ObjectKey};
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::proof::Proof;
use edgetrail_proto::record::format_time;
use serde::Serialize;

use crate::account::StreamAccount;
use crate::digests::{self, ChainId, Loaded};
use crate::gzip::unpack;
use crate::keys::Keys;
use crate::logs::records_of;
use crate::receipt_keys::ReceiptKeys;
use crate::receipts::Receipts;
use crate::report::{Check, Report, Verdict};
use crate::steps::Steps;
use crate::store::{Place, Store, StoreError};
use crate::streams::{Delivered, Shown, Streams};

/// Which record is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of a log file, by its path, key or the end of either; counted from 0.
    Place {
        file: String,
        index: usize,
    },
    Event(String),
}

/// A record with what proves it.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// The log file and the record's number in it.
    pub place: String,
    pub index: usize,
    /// How many records of the trail have this eventID.
    pub found: usize,
    pub steps: Steps,
    /// Where all steps led.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    pub record: Option<serde_json::Value>,
}

/// The host, and when.
#[derive(Debug, Serialize)]
pub struct Origin {
    pub host: String,
    pub agent: String,
    pub stream: StreamId,
    pub batch: u64,
    pub seq: u64,
    pub sealed: String,
    pub received: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{0}` is neither FILE#N nor an eventID: write the log file's path, #, and the record's number from 0")]
    Wanted(String),
    #[error("no log file of the trail ends in `{0}`")]
    NoFile(String),
    #[error("{count} log files end in `{file}`: write more of its path")]
    ManyFiles { file: String, count: usize },
    #[error("{place} has no record {index}: it has {records}, counted from 0")]
    NoRecord { place: Place, index: usize, records: usize },
    #[error("{place} is no log file")]
    NoLog { place: Place },
    #[error("no log file has a record with eventID {0}")]
    NoEvent(String),
}

impl std::str::FromStr for Wanted {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let wanted = || TraceError::Wanted(text.to_owned());
        match text.rsplit_once('#') {
            Some((file, index)) if !file.is_empty() => {
                Ok(Self::Place { file: file.to_owned(), index: index.parse().map_err(|_| wanted())? })
            }
            None if !text.is_empty() && !text.contains(['/', '.']) => Ok(Self::Event(text.to_owned())),
            _ => Err(wanted()),
        }
    }
}

/// A record and where it lies.
struct Record {
    place: Place,
    index: usize,
    bytes: Vec<u8>,
    /// Of the whole unpacked file.
    file_hash: Hash,
    found: usize,
}

pub async fn trace(store: &Store, keys: &Keys, wanted: &Wanted) -> Result<Trace, TraceError> {
    let places = store.list().await?;
    let record = find(store, &places, wanted).await?;
    let leaf = leaf_hash(&record.bytes);
    let mut steps = Steps::default();
    steps.note("record", Ok(format!("{} bytes, leaf hash {leaf}", record.bytes.len())));
    let origin = follow(store, keys, &places, &record, leaf, &mut steps).await?;
    let parsed = serde_json::from_slice(&record.bytes).ok();
    let Record { place, index, found, .. } = record;
    let origin = origin.filter(|_| steps.hold());
    Ok(Trace { place: place.to_string(), index, found, steps, origin, record: parsed })
}

async fn find(store: &Store, places: &[Place], wanted: &Wanted) -> Result<Record, TraceError> {
    let is_log = |place: &&Place| ObjectKey::parse(&place.key).is_some_and(|key| matches!(key.kind, Kind::Log | Kind::Insight));
    match wanted {
        Wanted::Place { file, index } => {
            // A path as the shell gives it: the trail's folder before the bucket is not part of the key.
            let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file);
            let ends = |place: &&Place| place.to_string().ends_with(file.as_str()) || file.ends_with(&place.to_string());
            let mut all: Vec<&Place> = places.iter().filter(is_log).filter(ends).collect();
            if all.is_empty() {
                all = places.iter().filter(is_log).filter(|place| place.key.ends_with(name)).collect();
            }
            let place = match all[..] {
                [place] => place.clone(),
                [] => return Err(TraceError::NoFile(file.clone())),
                _ => return Err(TraceError::ManyFiles { file: file.clone(), count: all.len() }),
            };
            let (records, file_hash) = read(store, &place).await?.ok_or_else(|| TraceError::NoLog { place: place.clone() })?;
            let count = records.len();
            let bytes = records.into_iter().nth(*index);
            let bytes = bytes.ok_or_else(|| TraceError::NoRecord { place: place.clone(), index: *index, records: count })?;
            Ok(Record { place, index: *index, bytes, file_hash, found: 1 })
        }
        Wanted::Event(id) => {
            let mut first = None;
            let mut found = 0;
            for place in places.iter().filter(is_log) {
                let Some((records, file_hash)) = read(store, place).await? else { continue };
                for (index, bytes) in records.into_iter().enumerate() {
                    let is_it = Facets::parse(&bytes)
                        .is_ok_and(|facets| facets.event_id.is_some_and(|event| event.to_string().eq_ignore_ascii_case(id)));
                    found += usize::from(is_it);
                    if is_it && first.is_none() {
                        first = Some(Record { place: place.clone(), index, bytes, file_hash, found: 1 });
                    }
                }
            }
            first.map(|record| Record { found, ..record }).ok_or_else(|| TraceError::NoEvent(id.clone()))
        }
    }
}

/// A log file's records and the hash of its unpacked bytes; `None` where it can't be read.
async fn read(store: &Store, place: &Place) -> Result<Option<(Vec<Vec<u8>>, Hash)>, StoreError> {
    let Some(object) = store.get(place).await? else { return Ok(None) };
    let Ok(unpacked) = unpack(&object.bytes) else { return Ok(None) };
    let hash = Hash::of(&unpacked.bytes);
    Ok(records_of(&unpacked.bytes).ok().map(|records| (records, hash)))
}

/// From the record's file over digest and proof to the host.
async fn follow(
    store: &Store,
    keys: &Keys,
    places: &[Place],
    record: &Record,
    leaf: Hash,
    steps: &mut Steps,
) -> Result<Option<Origin>, TraceError> {
    let lane = ObjectKey::parse(&record.place.key).map(|key| (key.account, key.region));
    let mut digests: Vec<(ChainId, u64, &Place)> = places
        .iter()
        .filter_map(|place| ObjectKey::parse(&place.key).map(|key| (key, place)))
        .filter(|(key, _)| key.kind == Kind::Digest && Some((&key.account, &key.region)) == lane.as_ref().map(|(a, r)| (a, r)))
        .filter_map(|(key, place)| ChainId::of_key(&key).map(|chain| (chain, key.time, place)))
        .collect();
    digests.sort();
    let mut streams = Streams::default();
    let mut receipts = Receipts::default();
    let mut before: Option<(ChainId, Loaded)> = None;
    let mut windows = 0;
    for (chain, _, place) in digests {
        if before.as_ref().is_some_and(|(former, _)| *former != chain) {
            (streams, receipts, before, windows) = (Streams::default(), Receipts::default(), None, 0);
        }
        let mut report = Report::default();
        let Some(object) = store.get(place).await? else { continue };
        let Some(loaded) = digests::load(place, &object, keys, &mut report) else { continue };
        if let Some((_, former)) = &before {
            digests::check_link(former, &loaded, &mut report);
        }
        if loaded.begins_anew() {
            streams.begin_anew();
        }
        let proof = proof_of(store, &loaded).await?;
        let mut of_streams = Report::default();
        let delivered = match &proof {
            Ok((at, proof)) => {
                windows += 1;
                let shown = Shown { place: at, chain: &chain, proof, roots: &keys.roots };
                streams.check(&shown, &mut receipts, &mut of_streams)
            }
            Err(_) => Vec::new(),
        };
        let lists = loaded
            .digest
            .log_files
            .iter()
            .find(|file| file.s3_bucket == record.place.bucket && file.s3_object == record.place.key);
        if let Some(listed) = lists {
            let same = listed.hash_value == record.file_hash.to_hex();
            let says = format!("{}\nSHA-256 {}, as its digest lists it", record.place, record.file_hash);
            steps.note(
                "log file",
                if same {
                    Ok(says)
                } else {
                    Err(format!("{}\nSHA-256 {}, but its digest lists {}", record.place, record.file_hash, listed.hash_value))
                },
            );
            let against = report.findings.iter().find(|finding| finding.verdict == Verdict::Integrity);
            steps.note(
                "digest",
                match against {
                    None => Ok(format!("{place}\nsigned by key {}", loaded.digest.digest_public_key_fingerprint)),
                    Some(finding) => Err(format!("{place}: {} {}", finding.check.says(), finding.detail)),
                },
            );
            let (at, proof) = match proof {
                Ok(proof) => proof,
                Err(why) => {
                    steps.note("proof file", Err(why));
                    return Ok(None);
                }
            };
            steps.note("proof file", Ok(format!("{at}\nhashes to what the digest names")));
            let window = Window { proof: &proof, delivered: &delivered, of_streams: &of_streams, windows };
            return Ok(window.origin(record, leaf, streams, keys, steps));
        }
        before = Some((chain, loaded));
    }
    steps.note("log file", Err(format!("{} is listed by no digest: nothing vouches for it", record.place)));
    Ok(None)
}

/// The proof that the digest names, or why there is none.
async fn proof_of(store: &Store, loaded: &Loaded) -> Result<Result<(Place, Proof), String>, StoreError> {
    let Some(named) = &loaded.digest.edgetrail_proof else { return Ok(Err("the digest names none".to_owned())) };
    let place = Place { bucket: named.s3_bucket.clone(), key: named.s3_object.clone() };
    let Some(object) = store.get(&place).await? else { return Ok(Err(format!("{place} is missing"))) };
    let unpacked = match unpack(&object.bytes) {
        Ok(unpacked) => unpacked,
        Err(error) => return Ok(Err(format!("{place}: {error}"))),
    };
    if Hash::of(&unpacked.bytes).to_hex() != named.hash_value {
        return Ok(Err(format!("{place}: {}", Check::ProofHash.says())));
    }
    Ok(Proof::from_json(&unpacked.bytes).map(|proof| (place, proof)).map_err(|error| error.to_string()))
}

/// The window that delivered the record.
struct Window<'a> {
    proof: &'a Proof,
    delivered: &'a [Delivered],
    of_streams: &'a Report,
    windows: u64,
}

impl Window<'_> {
    fn origin(&self, record: &Record, leaf: Hash, mut streams: Streams, keys: &Keys, steps: &mut Steps) -> Option<Origin> {
        let Some(proven) = self.delivered.iter().find(|delivered| delivered.leaf == leaf) else {
            steps.note("leaf", Err(format!("no batch of the window has it: {}", Check::RecordUnproven.says())));
            return None;
        };
        let Delivered { stream: id, k, seq, .. } = *proven;
        let header =
            self.proof.batches.iter().filter_map(|batch| Some((Header::decode(&batch.header.0).ok()?, batch.t_received)));
        let (header, t_received) = header.into_iter().find(|(header, _)| (header.stream, header.k) == (id, k))?;
        steps.note(
            "leaf",
            Ok(format!(
                "seq {seq}, in batch {k} of stream {id}\nleaves that hash to its root {1}: {0}",
                header.count, header.root
            )),
        );
        let against = |checks: &[Check]| {
            let found = self.of_streams.findings.iter().find(|found| {
                checks.contains(&found.check) && (found.stream == Some(id) || found.place.contains(&id.to_string()))
            });
            found.map(|found| format!("{}: {}", found.check.says(), found.detail))
        };
        let Some(stream) = streams.stream_mut(id) else {
            let why = against(&[Check::OpenFormat, Check::OpenSignature, Check::OpenCertificate, Check::OpenBinding]);
            steps.note("open", Err(why.unwrap_or_else(|| "no proof shows how the stream began".to_owned())));
            return None;
        };
        let account: &StreamAccount = &stream.account;
        let first = account.batches.map_or(0, |(first, _)| first);
        let begun = if account.taken_up { "the batch before it, on the word of its receipt" } else { "the stream's open" };
        let lost = stream.holes.iter().filter(|hole| hole.missing.from_batch < k);
        let lost: String = lost.map(|hole| format!("\nbut for {}, bridged by a receipt", hole.missing)).collect();
        let broken = stream
            .broken
            .then(|| against(&[Check::StreamChain, Check::StreamStart]).unwrap_or_else(|| "it is broken before".to_owned()));
        steps.note(
            "chain",
            match broken {
                None => Ok(format!(
                    "batches {first} to {k} each name the one before, from {begun} on; {} proofs read{lost}",
                    self.windows
                )),
                Some(why) => Err(why),
            },
        );
        let sealed = format_time(header.t_sealed);
        steps.note(
            "seal",
            match stream.broken {
                false if k == 0 => Ok(format!("of {sealed}, under the key that the open names, used once")),
                false => Ok(format!("of {sealed}, under the key that the batch before it names, used once")),
                true => Err("its key can't be known: the chain is broken".to_owned()),
            },
        );
        steps.note("receipt", self.receipt(id, k, t_received, keys));
        let roots = if keys.roots.is_empty() {
            Err("NOT CHECKED: give the collector's CA with --ca".to_owned())
        } else {
            Ok("leads to a CA root that was given".to_owned())
        };
        steps.note("open", Ok(format!("signed by the certificate of agent {}, {}", account.agent, format_time(account.opened))));
        steps.note("certificate", roots);
        let lane = against(&[Check::OpenBinding]);
        steps.note("binding", lane.map_or_else(|| Ok(format!("host {}, {}", account.host, account.scopes.join(", "))), Err));
        // Nothing of the record's own words was relied on; its file named it, its hash proved it.
        debug_assert_eq!(leaf, leaf_hash(&record.bytes));
        Some(Origin {
            host: account.host.clone(),
            agent: account.agent.to_string(),
            stream: id,
            batch: k,
            seq,
            sealed,
            received: format_time(t_received),
        })
    }

    /// The window's receipt for the stream: cumulative, so one at or behind the batch covers it.
    fn receipt(&self, id: StreamId, k: u64, t_received: u64, keys: &Keys) -> Result<String, String> {
        let trusted = ReceiptKeys::of(self.proof, &keys.roots);
        let all = self.proof.receipts.iter().filter_map(|bytes| Receipt::decode(&bytes.0).ok());
        let covers = all.into_iter().find(|receipt| receipt.stream == id && receipt.k >= k && trusted.vouch_for(receipt));
        let covers = covers.ok_or_else(|| format!("no receipt by a trusted key covers batch {k}"))?;
        let (received, at) = (format_time(t_received), covers.k);
        Ok(format!("the collector received it {received}, its receipt for batch {at} covers it"))
    }
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Record {} of {}", self.index, self.place)?;
        if let Some(record) = &self.record {
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            writeln!(f, "  {}  {} {}  eventID {}", text("eventTime"), text("eventSource"), text("eventName"), text("eventID"))?;
        }
        if self.found > 1 {
            writeln!(f, "  one of {} records with this eventID; write FILE#N for another", self.found)?;
        }
        write!(f, "\n{}", self.steps)?;
        match &self.origin {
            Some(Origin { host, agent, stream, batch, seq, sealed, received }) => {
                writeln!(f, "\nPROVEN  captured on host {host} by agent {agent},")?;
                writeln!(f, "        seq {seq} of stream {stream}, in batch {batch}: sealed {sealed}, received {received}")
            }
            None => writeln!(
                f,
                "\nNOT PROVEN  see the first FAILED step; `edgetrail-verify trail` names everything that is wrong around it"
            ),
        }
    }
}
