//! Answers a look-up: newest first over all files, one page.
//!
//! Files, then chunks, are taken up in the order of their newest event, and only while they may still hold something
//! newer than the page's last. The page's order is that of content, so a page does not shift while events arrive late.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::HistoryError;
use super::attribute::Attribute;
use super::chunk::{ChunkFacets, Position, Row, Wanted, records_at, scope_term, term};
use super::shelf::{Shelf, Span};
use super::store::{self, Asked};
use super::token;

/// How far apart, in ledger commit time, two commits of one event may lie and still be shown once: a push client that got
/// no answer retries within minutes.
const RETRY_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// Times are Unix seconds, inclusive, as CloudTrail's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub(super) wanted: Wanted,
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// Nothing older is shown. Moves with the clock, so no token is bound to it.
    pub oldest: u64,
    /// Largest page, at least 1.
    pub max: usize,
    pub token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<Found>,
    /// Absent on the last page.
    pub next: Option<String>,
}

/// One event as a look-up answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub event_id: Option<Uuid>,
    /// eventTime, Unix seconds.
    pub time: u64,
    pub read_only: Option<bool>,
    pub source: String,
    pub name: String,
    pub user: Option<String>,
    pub access_key: Option<String>,
    /// Type and name.
    pub resources: Vec<(String, String)>,
    /// Exactly as in the ledger.
    pub record: Vec<u8>,
}

impl Query {
    /// Every one of `attributes` must hold.
    pub fn new(account: &str, region: &str, attributes: Vec<(Attribute, String)>) -> Self {
        let wanted = Wanted { account: account.to_owned(), region: region.to_owned(), attributes };
        Self { wanted, from: None, to: None, oldest: 0, max: 50, token: None }
    }

    /// What every matching chunk's terms hold, the rarest first; None when nothing can match.
    fn terms(&self) -> Option<Vec<u32>> {
        let mut terms = Vec::new();
        for (attribute, value) in &self.wanted.attributes {
            match attribute {
                Attribute::EventId => terms.insert(0, term(*attribute, Uuid::try_parse(value).ok()?.as_bytes())),
                Attribute::ReadOnly => terms.push(term(*attribute, value.as_bytes())),
                _ => terms.insert(0, term(*attribute, value.as_bytes())),
            }
        }
        terms.push(scope_term(&self.wanted.account, &self.wanted.region));
        Some(terms)
    }
}

pub(super) fn run(shelf: &Shelf, query: &Query) -> Result<Page, HistoryError> {
    let mut behind = query.token.as_deref().map(|token| token::decode(query, token)).transpose()?;
    let Some(terms) = query.terms() else { return Ok(Page::default()) };
    let files = shelf.files();
    let mut page: Vec<Hit> = Vec::new();
    // One more than asked for tells whether there is a next page. Repeated commits of one event are taken out after they
    // were found, so another round may be needed.
    while page.len() <= query.max {
        let missing = query.max + 1 - page.len();
        let hits = newest(shelf, &files, query, &terms, behind, missing)?;
        let exhausted = hits.len() < missing;
        behind = hits.last().map(|hit| hit.row.position).or(behind);
        page.extend(shown_once(shelf, &files, hits)?);
        if exhausted {
            break;
        }
    }
    let more = page.len() > query.max;
    page.truncate(query.max);
    let next = page.last().filter(|_| more).map(|hit| token::encode(query, hit.row.position));
    Ok(Page { events: with_records(shelf, page)?, next })
}

/// A matching event and where it is stored; places ascend in the order of the ledger.
#[derive(Debug)]
struct Hit {
    place: Place,
    row: Row,
    agent: Vec<u8>,
    found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    file: u32,
    chunk: i64,
    at: usize,
}

/// What may hold something newer than all that was taken up so far, greatest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prospect {
    max_time: u64,
    file: u32,
    /// None: the file's candidates are not yet asked for.
    chunk: Option<i64>,
}

fn newest(
    shelf: &Shelf,
    files: &BTreeMap<u32, Span>,
    query: &Query,
    terms: &[u32],
    behind: Option<Position>,
    count: usize,
) -> Result<Vec<Hit>, HistoryError> {
    let from = query.from.unwrap_or(0).max(query.oldest);
    let to = query.to.unwrap_or(u64::MAX >> 1).min(behind.map_or(u64::MAX >> 1, |position| position.time));
    let asked = Asked { terms, from: from.min(u64::MAX >> 1), to };
    let holds = |span: &Span| span.events > 0 && span.max_time >= from && span.min_time <= to;
    let mut prospects: BinaryHeap<Prospect> = files
        .iter()
        .filter(|(_, span)| holds(span))
        .map(|(file, span)| Prospect { max_time: span.max_time, file: *file, chunk: None })
        .collect();
    // By position: ties in time are told apart by stream and seq, and one position is one event.
    let mut best: BTreeMap<Position, Hit> = BTreeMap::new();
    while let Some(prospect) = prospects.pop() {
        // The page is settled when it is full and nothing left can be newer than its last.
        let settled = best.len() >= count && best.first_key_value().is_some_and(|(last, _)| last.time > prospect.max_time);
        if settled {
            break;
        }
        let Some(chunk) = prospect.chunk else {
            let closed = files.get(&prospect.file).is_some_and(|span| span.closed);
            let candidates =
                read(shelf, prospect.file, |connection| store::candidates(connection, closed, &asked))?.unwrap_or_default();
            prospects.extend(candidates.into_iter().map(|found| Prospect {
                max_time: found.max_time,
                file: prospect.file,
                chunk: Some(found.chunk),
            }));
            continue;
        };
        let Some(facets) = facets_of(shelf, prospect.file, chunk)? else { continue };
        for at in facets.matches(&query.wanted) {
            let Some(row) = facets.rows.get(at) else { continue };
            let position = row.position;
            let inside = (from..=to).contains(&position.time) && behind.is_none_or(|behind| position < behind);
            let crowded = best.len() >= count && best.first_key_value().is_some_and(|(last, _)| position < *last);
            if inside && !crowded {
                let place = Place { file: prospect.file, chunk, at };
                let hit = Hit { place, row: row.clone(), agent: facets.agent(row).to_vec(), found: row.describe(&facets) };
                best.insert(position, hit);
                if best.len() > count {
                    best.pop_first();
                }
            }
        }
    }
    Ok(best.into_values().rev().collect())
}

/// Drops every hit whose event was committed before, by the same agent from the same source.
fn shown_once(shelf: &Shelf, files: &BTreeMap<u32, Span>, hits: Vec<Hit>) -> Result<Vec<Hit>, HistoryError> {
    let mut kept = Vec::with_capacity(hits.len());
    for hit in hits {
        if !was_committed_before(shelf, files, &hit)? {
            kept.push(hit);
        }
    }
    Ok(kept)
}

fn was_committed_before(shelf: &Shelf, files: &BTreeMap<u32, Span>, hit: &Hit) -> Result<bool, HistoryError> {
    let Some(event_id) = hit.row.event_id else { return Ok(false) };
    let window = u64::try_from(RETRY_WINDOW.as_nanos()).unwrap_or(u64::MAX);
    let since = files.get(&hit.place.file).map_or(0, |span| span.first_received.saturating_sub(window));
    let terms = [term(Attribute::EventId, event_id.as_bytes())];
    let asked = Asked { terms: &terms, from: 0, to: u64::MAX >> 1 };
    let earlier = files.range(..=hit.place.file).filter(|(_, span)| span.events > 0 && span.last_received >= since);
    for (file, span) in earlier {
        for candidate in read(shelf, *file, |connection| store::candidates(connection, span.closed, &asked))?.unwrap_or_default()
        {
            if (*file, candidate.chunk) > (hit.place.file, hit.place.chunk) {
                continue;
            }
            let Some(facets) = facets_of(shelf, *file, candidate.chunk)? else { continue };
            for (at, row) in facets.rows.iter().enumerate() {
                let place = Place { file: *file, chunk: candidate.chunk, at };
                let same = place < hit.place && row.event_id == Some(event_id) && facets.agent(row) == hit.agent;
                if same && source_of(shelf, place)? == source_of(shelf, hit.place)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// The agent's source of a record, as it says itself: `additionalEventData.edgetrail.source`.
fn source_of(shelf: &Shelf, place: Place) -> Result<Option<String>, HistoryError> {
    let Some((records, bytes)) = read(shelf, place.file, |connection| store::records(connection, place.chunk))? else {
        return Ok(None);
    };
    let records = records_at(&records, bytes, &[place.at])?;
    let record: Option<serde_json::Value> = records.first().and_then(|record| serde_json::from_slice(record).ok());
    let source = record
        .as_ref()
        .and_then(|record| record.pointer("/additionalEventData/edgetrail/source"))
        .and_then(|source| source.as_str());
    Ok(source.map(str::to_owned))
}

fn facets_of(shelf: &Shelf, file: u32, chunk: i64) -> Result<Option<ChunkFacets>, HistoryError> {
    let stored = read(shelf, file, |connection| store::facets(connection, chunk))?;
    stored.map(|(facets, bytes)| ChunkFacets::decode(&facets, bytes)).transpose()
}

/// Each chunk's records are decompressed once.
fn with_records(shelf: &Shelf, page: Vec<Hit>) -> Result<Vec<Found>, HistoryError> {
    let mut places: HashMap<(u32, i64), Vec<usize>> = HashMap::new();
    for hit in &page {
        places.entry((hit.place.file, hit.place.chunk)).or_default().push(hit.place.at);
    }
    let mut records: HashMap<Place, Vec<u8>> = HashMap::new();
    for ((file, chunk), ats) in places {
        let Some((stored, bytes)) = read(shelf, file, |connection| store::records(connection, chunk))? else { continue };
        for (at, record) in ats.iter().zip(records_at(&stored, bytes, &ats)?) {
            records.insert(Place { file, chunk, at: *at }, record);
        }
    }
    // Retention may have unlinked a file since its facets were read: then the event is gone.
    let complete = page.into_iter().filter_map(|hit| records.remove(&hit.place).map(|record| Found { record, ..hit.found }));
    Ok(complete.collect())
}

/// None when retention took the file away meanwhile.
fn read<T>(
    shelf: &Shelf,
    file: u32,
    read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, HistoryError> {
    match shelf.read(file, read) {
        Ok(value) => Ok(Some(value)),
        Err(_) if !shelf.path(file).exists() => Ok(None),
        Err(error) => Err(error),
    }
}
