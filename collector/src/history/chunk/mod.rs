//! A chunk: some hundred consecutive events of a history file, as one row.
//!
//! One row for many events is what makes history cheap: SQLite's cost falls on the chunk, and what remains of an event is
//! its share of two compressions. `facets` (a dictionary and fixed-width rows) is decoded to match, `records` only for
//! what matched. `terms` are the 32-bit hashes of every value that a look-up can ask for, sorted: a chunk without the
//! asked one is passed over undecoded. A term may lie, a facet never does: a match is always decided on facets.

mod codec;

use std::collections::HashMap;

use edgetrail_proto::facets::Facets;
use edgetrail_proto::identity::{AgentId, StreamId};
use uuid::Uuid;

use self::codec::{Reader, compress, count, decompress, encode_facets};
use super::HistoryError;
use super::attribute::Attribute;

/// A chunk takes no more events once it has this many.
pub(super) const CHUNK_EVENTS_FULL: usize = 512;
/// Nor once its records have this many bytes: what one match may cost to decode.
pub(super) const CHUNK_BYTES_FULL: usize = 1 << 20;

/// Where an event stands: newest first is this order reversed. Content, never arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// eventTime, Unix seconds.
    pub time: u64,
    pub stream: StreamId,
    pub seq: u64,
}

/// One event of a decoded chunk. Numbers name values of the chunk's dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub position: Position,
    pub event_id: Option<Uuid>,
    pub read_only: Option<bool>,
    agent: u32,
    account: u32,
    region: u32,
    source: u32,
    name: u32,
    user: Option<u32>,
    access_key: Option<u32>,
    resources: Vec<(u32, u32)>,
}

/// A chunk being filled.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    numbers: HashMap<Box<[u8]>, u32>,
    dictionary: Vec<Box<[u8]>>,
    rows: Vec<Row>,
    records: Vec<u8>,
    terms: Vec<u32>,
}

/// What is stored.
#[derive(Debug)]
pub(super) struct EncodedChunk {
    pub min_time: u64,
    pub max_time: u64,
    pub events: u32,
    pub terms: Vec<u8>,
    pub facets: Vec<u8>,
    pub facets_bytes: u32,
    pub records: Vec<u8>,
    pub records_bytes: u32,
}

/// A chunk's facets, decoded.
#[derive(Debug)]
pub(super) struct ChunkFacets {
    dictionary: Vec<Box<[u8]>>,
    pub rows: Vec<Row>,
}

/// What a look-up asks of each event, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub account: String,
    pub region: String,
    pub attributes: Vec<(Attribute, String)>,
}

impl ChunkBuilder {
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_EVENTS_FULL || self.records.len() >= CHUNK_BYTES_FULL
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn events(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn push(&mut self, stream: StreamId, agent: AgentId, seq: u64, facets: &Facets, record: &[u8]) {
        let row = Row {
            position: Position { time: facets.time, stream, seq },
            event_id: facets.event_id,
            read_only: facets.read_only,
            agent: self.number(agent.as_bytes()),
            account: self.number(facets.account.as_bytes()),
            region: self.number(facets.region.as_bytes()),
            source: self.number(facets.source.as_bytes()),
            name: self.number(facets.name.as_bytes()),
            user: facets.user.as_ref().map(|user| self.number(user.as_bytes())),
            access_key: facets.access_key.as_ref().map(|key| self.number(key.as_bytes())),
            resources: facets
                .resources
                .iter()
                .map(|(kind, name)| (self.number(kind.as_bytes()), self.number(name.as_bytes())))
                .collect(),
        };
        self.add_terms(facets);
        self.rows.push(row);
        self.records.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.records.extend_from_slice(record);
    }

    pub(super) fn encode(&mut self) -> Result<EncodedChunk, HistoryError> {
        let facets = encode_facets(&self.dictionary, &self.rows);
        self.terms.sort_unstable();
        self.terms.dedup();
        let times = || self.rows.iter().map(|row| row.position.time);
        Ok(EncodedChunk {
            min_time: times().min().unwrap_or(0),
            max_time: times().max().unwrap_or(0),
            events: count(self.rows.len())?,
            terms: self.terms.iter().flat_map(|term| term.to_be_bytes()).collect(),
            facets: compress(&facets)?,
            facets_bytes: count(facets.len())?,
            records: compress(&self.records)?,
            records_bytes: count(self.records.len())?,
        })
    }

    fn number(&mut self, value: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = u32::try_from(self.dictionary.len()).unwrap_or(u32::MAX);
        self.dictionary.push(value.into());
        self.numbers.insert(value.into(), number);
        number
    }

    fn add_terms(&mut self, facets: &Facets) {
        let mut add = |attribute, value: &[u8]| self.terms.push(term(attribute, value));
        if let Some(id) = facets.event_id {
            add(Attribute::EventId, id.as_bytes());
        }
        if let Some(read_only) = facets.read_only {
            add(Attribute::ReadOnly, if read_only { b"true" } else { b"false" });
        }
        add(Attribute::EventName, facets.name.as_bytes());
        add(Attribute::EventSource, facets.source.as_bytes());
        for (attribute, value) in [(Attribute::Username, &facets.user), (Attribute::AccessKeyId, &facets.access_key)] {
            if let Some(value) = value {
                add(attribute, value.as_bytes());
            }
        }
        for (kind, name) in &facets.resources {
            add(Attribute::ResourceType, kind.as_bytes());
            add(Attribute::ResourceName, name.as_bytes());
        }
        self.terms.push(scope_term(&facets.account, &facets.region));
        // Most are repeated: keep the list near its final size.
        if self.terms.len() > 8 * CHUNK_EVENTS_FULL {
            self.terms.sort_unstable();
            self.terms.dedup();
        }
    }
}

impl ChunkFacets {
    pub(super) fn decode(bytes: &[u8], decoded_bytes: u32) -> Result<Self, HistoryError> {
        let bytes = decompress(bytes, decoded_bytes)?;
        let mut reader = Reader(&bytes);
        let count = reader.u32()?;
        let mut dictionary = Vec::new();
        for _ in 0..count {
            let length = reader.u32()?;
            dictionary.push(reader.take(length)?.into());
        }
        let count = reader.u32()?;
        let mut rows = Vec::new();
        for _ in 0..count {
            rows.push(reader.row()?);
        }
        Ok(Self { dictionary, rows })
    }

    /// The places of all matching rows.
    pub(super) fn matches(&self, wanted: &Wanted) -> Vec<usize> {
        let number = |value: &str| {
            self.dictionary.iter().position(|entry| **entry == *value.as_bytes()).and_then(|at| u32::try_from(at).ok())
        };
        let (Some(account), Some(region)) = (number(&wanted.account), number(&wanted.region)) else { return Vec::new() };
        // What a look-up asks for, in the chunk's numbers; a value that the chunk lacks matches nothing.
        let asked: Vec<(Attribute, &str, Option<u32>)> =
            wanted.attributes.iter().map(|(attribute, value)| (*attribute, value.as_str(), number(value))).collect();
        let matches = |row: &Row| {
            row.account == account
                && row.region == region
                && asked.iter().all(|(attribute, value, number)| row.has(*attribute, value, *number))
        };
        self.rows.iter().enumerate().filter(|(_, row)| matches(row)).map(|(at, _)| at).collect()
    }

    pub(super) fn text(&self, number: u32) -> String {
        let bytes = usize::try_from(number).ok().and_then(|at| self.dictionary.get(at));
        String::from_utf8_lossy(bytes.map_or(&[], |bytes| bytes)).into_owned()
    }

    pub(super) fn agent(&self, row: &Row) -> &[u8] {
        usize::try_from(row.agent).ok().and_then(|at| self.dictionary.get(at)).map_or(&[], |bytes| bytes)
    }
}

impl Row {
    fn has(&self, attribute: Attribute, value: &str, number: Option<u32>) -> bool {
        match attribute {
            Attribute::EventId => self.event_id.is_some_and(|id| id.hyphenated().to_string() == value),
            Attribute::ReadOnly => self.read_only.is_some_and(|read_only| value == if read_only { "true" } else { "false" }),
            Attribute::EventName => Some(self.name) == number,
            Attribute::EventSource => Some(self.source) == number,
            Attribute::Username => number.is_some() && self.user == number,
            Attribute::AccessKeyId => number.is_some() && self.access_key == number,
            Attribute::ResourceType => self.resources.iter().any(|(kind, _)| Some(*kind) == number),
            Attribute::ResourceName => self.resources.iter().any(|(_, name)| Some(*name) == number),
        }
    }

    pub(super) fn describe(&self, facets: &ChunkFacets) -> super::lookup::Found {
        super::lookup::Found {
            event_id: self.event_id,
            time: self.position.time,
            read_only: self.read_only,
            source: facets.text(self.source),
            name: facets.text(self.name),
            user: self.user.map(|user| facets.text(user)),
            access_key: self.access_key.map(|key| facets.text(key)),
            resources: self.resources.iter().map(|(kind, name)| (facets.text(*kind), facets.text(*name))).collect(),
            record: Vec::new(),
        }
    }
}

/// The record at each of `places`, in their order.
pub(super) fn records_at(bytes: &[u8], decoded_bytes: u32, places: &[usize]) -> Result<Vec<Vec<u8>>, HistoryError> {
    let bytes = decompress(bytes, decoded_bytes)?;
    let mut reader = Reader(&bytes);
    let mut all = Vec::new();
    while !reader.is_empty() {
        let length = reader.u32()?;
        all.push(reader.take(length)?);
    }
    places.iter().map(|at| all.get(*at).map(|record| record.to_vec()).ok_or(HistoryError::Damaged)).collect()
}

/// FNV-1a, 32 bits, over the attribute's number and the value. Stored: never change it.
pub(super) fn term(attribute: Attribute, value: &[u8]) -> u32 {
    fnv(attribute.number(), &[value])
}

pub(super) fn scope_term(account: &str, region: &str) -> u32 {
    fnv(0, &[account.as_bytes(), b"/", region.as_bytes()])
}

/// Whether every one of `asked` is among the sorted, encoded `terms`.
pub(super) fn has_terms(terms: &[u8], asked: &[u32]) -> bool {
    let (terms, _) = terms.as_chunks::<4>();
    asked.iter().all(|term| terms.binary_search_by(|found| u32::from_be_bytes(*found).cmp(term)).is_ok())
}

fn fnv(kind: u8, parts: &[&[u8]]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    parts.iter().fold(step(0x811c_9dc5, &kind), |hash, part| part.iter().fold(hash, step))
}
