//! Sends what a trail has planned: each object once, each lane strictly in plan order.
//!
//! Every PUT is conditional. Where the key is taken, an earlier attempt may have stored the object without our hearing
//! of it: the content decides. Equal content is a delivery, other content is an `object-conflict` that stops the lane
//! and tells. What fails is tried again for ever, with backoff and jitter; other lanes and trails go on meanwhile.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgetrail_disk::crash_point;
use edgetrail_proto::chain::Hash;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::log_file::LogFile;
use super::plan::{ObjectKind, PlannedObject};
use super::shared::Shared;
use super::{TrailError, blocking};
use crate::control::TrailConfig;
use crate::sinks::{Put, Sink, SinkError};

/// PUTs of one trail in flight at a time, of as many lanes.
const IN_FLIGHT_MAX: usize = 8;

/// Longest time between two tries. What only a person can end begins here.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Wait before the trails' own store is read again after an error.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// Uncompressed bytes read of an object that lies where ours should be: more than any of ours has.
const COMPARED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Record bytes read from the ledger at once when a file is made again.
const READ_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("delivery to the sink failed")]
    Sink(#[from] SinkError),
    #[error(
        "object-conflict: another object lies at `{key}`: find out who wrote it, then move it away; this collector never \
         overwrites"
    )]
    Conflict { key: String },
    #[error("the ledger no longer gives the planned bytes of `{key}`: restore the ledger from a copy")]
    LedgerChanged { key: String },
    #[error("the trail's own store failed")]
    Trail(#[from] TrailError),
}

/// A lane's next try.
struct Retry {
    failures: u32,
    at: Instant,
}

/// Runs until stopped.
pub(super) async fn deliver(shared: Arc<Shared>, trail: Arc<TrailConfig>, stop: CancellationToken) {
    let Some(sink) = open_sink(&shared, &trail, &stop).await else { return };
    let mut running: JoinSet<(PlannedObject, Result<(), DeliveryError>)> = JoinSet::new();
    let mut busy: HashSet<i64> = HashSet::new();
    let mut retries: HashMap<i64, Retry> = HashMap::new();
    loop {
        let planned = shared.planned(&trail.arn);
        let due = match due_objects(&shared, &trail, &busy, &retries).await {
            Ok(due) => due,
            Err(error) => {
                error!(trail = trail.name, error = super::chain(&error), "what is to be delivered could not be read");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(STORE_RETRY) => continue,
                }
            }
        };
        for object in due {
            if busy.len() >= IN_FLIGHT_MAX {
                break;
            }
            busy.insert(object.lane);
            let (shared, trail, sink) = (shared.clone(), trail.clone(), sink.clone());
            running.spawn(async move {
                let result = deliver_one(&shared, &trail, &sink, &object).await;
                (object, result)
            });
        }
        let room = busy.len() < IN_FLIGHT_MAX;
        let next_try = retries.iter().filter(|(lane, _)| room && !busy.contains(lane)).map(|(_, retry)| retry.at).min();
        tokio::select! {
            () = stop.cancelled() => return,
            Some(done) = running.join_next() => {
                let Ok((object, result)) = done else { continue };
                busy.remove(&object.lane);
                match result {
                    Ok(()) => drop(retries.remove(&object.lane)),
                    Err(error) => {
                        let failures = retries.get(&object.lane).map_or(0, |retry| retry.failures) + 1;
                        tell(&shared, &trail, &object, &error, failures);
                        let at = Instant::now() + backoff(shared.backoff, failures, needs_operator(&error));
                        retries.insert(object.lane, Retry { failures, at });
                    }
                }
            }
            () = planned.notified(), if room => {}
            () = tokio::time::sleep_until(next_try.unwrap_or_else(Instant::now)), if next_try.is_some() => {}
        }
    }
}

/// Opens the sink and proves its conditional PUT; tells and tries again until both hold.
async fn open_sink(shared: &Shared, trail: &TrailConfig, stop: &CancellationToken) -> Option<Sink> {
    let mut failures = 0;
    loop {
        let opened = match shared.sink(trail) {
            Ok(sink) => sink.probe(trail.prefix.as_deref(), &trail.account).await.map(|()| sink),
            Err(error) => Err(error),
        };
        let error = match opened {
            Ok(sink) => {
                info!(trail = trail.name, bucket = trail.bucket, "the sink takes objects and refuses to overwrite");
                return Some(sink);
            }
            Err(error) => error,
        };
        failures += 1;
        let because = super::chain(&error);
        warn!(trail = trail.name, code = error.code(), error = because, failures, "the sink can't be used");
        let now = shared.clock.now();
        shared.progress(&trail.arn, |status| {
            status.failed(false, now, error.code(), &because);
            status.failed(true, now, error.code(), &because);
        });
        let wait = backoff(shared.backoff, failures, error.needs_operator());
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The next object of every lane that is neither busy nor waiting, oldest plan first.
async fn due_objects(
    shared: &Arc<Shared>,
    trail: &Arc<TrailConfig>,
    busy: &HashSet<i64>,
    retries: &HashMap<i64, Retry>,
) -> Result<Vec<PlannedObject>, TrailError> {
    let now = Instant::now();
    let mut waiting = busy.clone();
    waiting.extend(retries.iter().filter(|(_, retry)| retry.at > now).map(|(lane, _)| lane));
    let (shared, trail) = (shared.clone(), trail.clone());
    blocking(move || {
        let mut due = Vec::new();
        for lane in shared.store.undelivered_lanes(&trail.arn)? {
            if !waiting.contains(&lane) {
                due.extend(shared.store.next_undelivered(lane)?);
            }
        }
        due.sort_unstable_by_key(|object| object.id);
        Ok(due)
    })
    .await
}

async fn deliver_one(
    shared: &Arc<Shared>,
    trail: &Arc<TrailConfig>,
    sink: &Sink,
    object: &PlannedObject,
) -> Result<(), DeliveryError> {
    let body = match object.body.clone().or_else(|| shared.bodies.get(object.id)) {
        Some(body) => body,
        None => {
            let (shared, trail, object) = (shared.clone(), trail.clone(), object.clone());
            blocking(move || Ok(make_again(&shared, &trail, &object))).await??
        }
    };
    if sink.put_new(&object.key, body, &object.meta).await? == Put::Exists {
        let found = sink.get(&object.key).await?;
        let expected = object.sha256;
        let same = blocking(move || Ok(found.is_some_and(|found| content_hash(&found.bytes) == Some(expected)))).await?;
        if !same {
            return Err(DeliveryError::Conflict { key: object.key.clone() });
        }
    }
    crash_point("collector/object-put");
    // Until here a crash repeats the PUT, which then finds the object and its equal content. From here it is not repeated.
    let (shared, trail, object) = (shared.clone(), trail.clone(), object.clone());
    blocking(move || {
        let now = shared.clock.now();
        shared.store.delivered(&object, now)?;
        crash_point("collector/object-marked");
        shared.bodies.forget(object.id);
        shared.progress(&trail.arn, |status| status.delivered(object.kind == ObjectKind::Digest, now));
        shared.report_passed()?;
        Ok(())
    })
    .await?;
    Ok(())
}

/// A planned log file, from its range of the ledger: the same records, the same bytes.
fn make_again(shared: &Shared, trail: &TrailConfig, object: &PlannedObject) -> Result<Bytes, DeliveryError> {
    let changed = || DeliveryError::LedgerChanged { key: object.key.clone() };
    let (account, region) = shared.store.lane_place(object.lane).map_err(TrailError::from)?;
    let mut file = LogFile::new(object.from_index);
    let mut position = object.from_index;
    while position < object.to_index {
        let entries = shared.ledger.read(position, READ_BYTES).map_err(TrailError::from)?;
        position = entries.last().ok_or_else(changed)?.index + 1;
        let records = entries.iter().filter(|entry| entry.index < object.to_index).flat_map(|entry| &entry.records);
        for record in records {
            if let Ok(facets) = &record.facets
                && facets.account == account
                && facets.region == region
                && trail.selects(facets)
            {
                file.append(&record.bytes, facets.time);
            }
        }
    }
    let closed = file.close();
    if closed.sha256 == object.sha256 { Ok(closed.body) } else { Err(changed()) }
}

/// SHA-256 of what is inside the gzip; `None` where it is no gzip or has no end.
fn content_hash(gzip: &[u8]) -> Option<Hash> {
    let mut plain = flate2::read::GzDecoder::new(gzip).take(COMPARED_BYTES_MAX);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match plain.read(&mut chunk).ok()? {
            0 => break,
            n => hash.update(chunk.get(..n)?),
        }
    }
    (plain.limit() > 0).then(|| Hash(hash.finalize().into()))
}

fn tell(shared: &Shared, trail: &TrailConfig, object: &PlannedObject, error: &DeliveryError, failures: u32) {
    let because = super::chain(error);
    let code = match error {
        DeliveryError::Sink(error) => error.code(),
        DeliveryError::Conflict { .. } => "ObjectConflict",
        DeliveryError::LedgerChanged { .. } => "LedgerChanged",
        DeliveryError::Trail(_) => "InternalError",
    };
    match error {
        DeliveryError::Conflict { .. } | DeliveryError::LedgerChanged { .. } => {
            error!(trail = trail.name, key = object.key, alarm = code, error = because, "an object can't be delivered");
        }
        DeliveryError::Sink(_) | DeliveryError::Trail(_) => {
            warn!(trail = trail.name, key = object.key, code, error = because, failures, "delivery failed, it is tried again");
        }
    }
    let now = shared.clock.now();
    shared.progress(&trail.arn, |status| status.failed(object.kind == ObjectKind::Digest, now, code, &because));
}

fn needs_operator(error: &DeliveryError) -> bool {
    match error {
        DeliveryError::Sink(error) => error.needs_operator(),
        DeliveryError::Conflict { .. } | DeliveryError::LedgerChanged { .. } => true,
        DeliveryError::Trail(_) => false,
    }
}

/// Doubles from `first` to a minute, of which a random half is waited at least: trails don't come back in step.
fn backoff(first: Duration, failures: u32, needs_operator: bool) -> Duration {
    let exponent = failures.saturating_sub(1) + if needs_operator { 4 } else { 0 };
    let full = first.saturating_mul(1 << exponent.min(16)).min(BACKOFF_MAX);
    let mut random = [0; 2];
    // Without randomness the backoff is only less spread.
    let share = if getrandom::fill(&mut random).is_ok() { u32::from(u16::from_be_bytes(random)) } else { 0 };
    full / 2 + full / 2 * share / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_a_minute_and_is_spread() {
        let first = Duration::from_millis(500);
        for failures in 1..40 {
            let wait = backoff(first, failures, false);
            assert!(wait <= BACKOFF_MAX && wait >= first / 2, "{wait:?} after {failures}");
        }
        assert!(backoff(first, 40, false) >= BACKOFF_MAX / 2);
        assert!(backoff(first, 1, true) > backoff(first, 1, false));
    }

    #[test]
    fn only_whole_gzip_is_compared() {
        let body = super::super::log_file::compress(b"content");
        assert_eq!(content_hash(&body), Some(Hash::of(b"content")));
        assert_eq!(content_hash(&body[..body.len() - 1]), None);
        assert_eq!(content_hash(b"content"), None);
    }
}
