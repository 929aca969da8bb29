//! Writes the open file: batches in, chunks out, with the ledger cursor in the same transaction.

use std::sync::Arc;
use std::time::Duration;

use edgetrail_disk::crash_point;
use edgetrail_proto::facets::{Category, Facets};
use edgetrail_proto::identity::{AgentId, StreamId};
use rusqlite::Connection;

use super::chunk::ChunkBuilder;
use super::shelf::{Shelf, Span};
use super::{FILE_AGE_MAX, FILE_EVENTS_MAX, HistoryError, store};
use crate::ledger::Entry;

/// A chunk with fewer events than this is written again with the next ones, so that a quiet host's history does not
/// become one row for each event.
const CHUNK_EVENTS_SETTLED: usize = 128;

/// One committed batch, as much of it as history keeps.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub index: u64,
    /// Unix nanoseconds.
    pub t_received: u64,
    pub stream: StreamId,
    pub agent: AgentId,
    /// seq and the record, management events only.
    pub events: Vec<(u64, &'a Facets, &'a [u8])>,
}

#[derive(Debug)]
pub(super) struct Writer {
    shelf: Arc<Shelf>,
    number: u32,
    connection: Connection,
    next_index: u64,
    span: Span,
    /// The chunk that is being filled; committed up to its last `append`.
    chunk: i64,
    filling: ChunkBuilder,
    events_max: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        let records = (entry.header.first_seq..).zip(&entry.records);
        let events = records.filter_map(|(seq, record)| match &record.facets {
            Ok(facets) if facets.category == Category::Management => Some((seq, facets, record.bytes.as_ref())),
            _ => None,
        });
        Self {
            index: entry.index,
            t_received: entry.t_received,
            stream: entry.stream_id(),
            agent: entry.stream.agent,
            events: events.collect(),
        }
    }
}

impl Writer {
    /// Goes on in the last file, or in the next one if that is closed.
    pub(super) fn open(shelf: Arc<Shelf>) -> Result<Self, HistoryError> {
        let number = shelf.last().unwrap_or(0);
        let mut writer = Self::open_file(shelf, number, 0)?;
        if writer.span.closed {
            writer = writer.next_file()?;
        }
        Ok(writer)
    }

    fn open_file(shelf: Arc<Shelf>, number: u32, first_cursor: u64) -> Result<Self, HistoryError> {
        let path = shelf.path(number);
        let connection = store::open_writer(&path, first_cursor)?;
        let read = || {
            let version = store::version(&connection)?;
            let next_index = store::cursor(&connection)?;
            let span = store::span(&connection)?.unwrap_or_default();
            let chunk = store::next_chunk(&connection)?;
            Ok((version, next_index, span, chunk))
        };
        let (version, next_index, span, chunk) = read().map_err(|source| HistoryError::from((path.clone(), source)))?;
        if version > store::VERSION {
            return Err(HistoryError::Version(version));
        }
        shelf.set(number, span);
        Ok(Self {
            shelf,
            number,
            connection,
            next_index,
            span,
            chunk,
            filling: ChunkBuilder::default(),
            events_max: FILE_EVENTS_MAX,
        })
    }

    #[cfg(test)]
    pub(super) fn with_events_max(self, events_max: u64) -> Self {
        Self { events_max, ..self }
    }

    /// ledger_index of the next batch to read.
    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Leaves out what can't be read any more; durable with the next commit.
    pub(super) fn skip_to(&mut self, index: u64) {
        self.next_index = self.next_index.max(index);
    }

    /// Commits batches that follow each other. After an error the writer must be opened afresh.
    pub(super) fn append(mut self, batches: &[Batch<'_>]) -> Result<Self, HistoryError> {
        let mut rest = batches;
        while let Some(first) = rest.first() {
            if self.is_due(first) {
                self = self.close()?.next_file()?;
            }
            let mut events = self.span.events;
            let fits = rest.iter().take_while(|batch| {
                events += u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
                events <= self.events_max
            });
            // A batch alone always fits a fresh file: it has at most 1,024 records.
            let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
            self.commit(now)?;
            rest = later;
        }
        Ok(self)
    }

    fn is_due(&self, batch: &Batch<'_>) -> bool {
        let full = self.span.events + u64::try_from(batch.events.len()).unwrap_or(u64::MAX) > self.events_max;
        let age = Duration::from_nanos(batch.t_received.saturating_sub(self.span.first_received));
        self.span.events > 0 && (full || age > FILE_AGE_MAX)
    }

    fn commit(&mut self, batches: &[Batch<'_>]) -> Result<(), HistoryError> {
        let path = self.shelf.path(self.number);
        let file_error = |source| HistoryError::from((path.clone(), source));
        let mut span = self.span;
        let mut next_index = self.next_index;
        let transaction = self.connection.transaction().map_err(file_error)?;
        for batch in batches {
            for (seq, facets, record) in &batch.events {
                self.filling.push(batch.stream, batch.agent, *seq, facets, record);
                span.add(facets.time, batch.t_received);
                if self.filling.is_full() {
                    store::put_chunk(&transaction, self.chunk, &self.filling.encode()?).map_err(file_error)?;
                    self.filling = ChunkBuilder::default();
                    self.chunk += 1;
                }
            }
            next_index = batch.index + 1;
        }
        if !self.filling.is_empty() {
            store::put_chunk(&transaction, self.chunk, &self.filling.encode()?).map_err(file_error)?;
            if self.filling.events() >= CHUNK_EVENTS_SETTLED {
                self.filling = ChunkBuilder::default();
                self.chunk += 1;
            }
        }
        store::set_about(&transaction, next_index, &span).map_err(file_error)?;
        crash_point("collector/history-before-commit");
        transaction.commit().map_err(file_error)?;
        crash_point("collector/history-committed");
        // From here on a crash recovers to these batches being in history, once; until here, to reading them again.
        self.span = span;
        self.next_index = next_index;
        self.shelf.set(self.number, span);
        Ok(())
    }

    /// Sorts the file's terms into postings. The next file is made after it: a crash between leaves a closed last file.
    fn close(mut self) -> Result<Self, HistoryError> {
        let path = self.shelf.path(self.number);
        let mut close = || {
            let span = Span { closed: true, ..self.span };
            let transaction = self.connection.transaction()?;
            store::build_postings(&transaction)?;
            store::set_about(&transaction, self.next_index, &span)?;
            transaction.commit()?;
            // From here on a crash recovers to a closed file.
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(span)
        };
        self.span = close().map_err(|source| HistoryError::from((path.clone(), source)))?;
        self.shelf.set(self.number, self.span);
        Ok(self)
    }

    fn next_file(self) -> Result<Self, HistoryError> {
        let events_max = self.events_max;
        let next = Self::open_file(self.shelf, self.number + 1, self.next_index)?;
        Ok(Self { events_max, ..next })
    }

    /// Unlinks closed files whose last event was committed before `before`, Unix nanoseconds.
    pub(super) fn retire(&self, before: u64) -> Result<usize, HistoryError> {
        let files = self.shelf.files();
        let old: Vec<u32> = files
            .iter()
            .filter(|(number, span)| **number != self.number && span.closed && span.last_received < before)
            .map(|(number, _)| *number)
            .collect();
        for number in &old {
            self.shelf.remove(*number)?;
        }
        Ok(old.len())
    }
}

impl Span {
    fn add(&mut self, time: u64, t_received: u64) {
        let first = self.events == 0;
        self.events += 1;
        self.min_time = if first { time } else { self.min_time.min(time) };
        self.max_time = self.max_time.max(time);
        self.first_received = if first { t_received } else { self.first_received };
        self.last_received = self.last_received.max(t_received);
    }
}
