//! The buffer as the uplink sees it: reads on a connection of their own, changes through the writer.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use edgetrail_disk::{Medium, crash_point};
use edgetrail_link::outbox::{
    CollectorPosition, HeldStream, Opening, Outbox, OutboxError, OutgoingBatch, OutgoingBody, Reconciled,
};
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::{BatchKind, Header, Receipt, Verifier};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::BATCHES_NAMED_MAX;
use rusqlite::Connection;
use tokio::sync::watch;

use super::scribe::{Position, Published, STREAMS_READ_MAX, end_seq};
use super::writer::Command;
use super::{BufferError, addition, store};

/// What lies ready to be sent. Implements [`Outbox`].
#[derive(Debug)]
pub struct Shelf {
    medium: Medium,
    dir: PathBuf,
    reader: Mutex<Reader>,
    commands: SyncSender<Command>,
    published: Arc<Published>,
}

/// A connection to the database as it was after so many replacements.
#[derive(Debug)]
struct Reader {
    db: Connection,
    file: u64,
}

impl Shelf {
    pub(super) fn open(
        medium: &Medium,
        dir: &Path,
        commands: SyncSender<Command>,
        published: Arc<Published>,
    ) -> Result<Self, BufferError> {
        let reader = Reader { file: published.position().file, db: store::open_reader(medium, dir)? };
        Ok(Self { medium: medium.clone(), dir: dir.to_owned(), reader: Mutex::new(reader), commands, published })
    }

    /// Asks the writer and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(SyncSender<Result<T, BufferError>>) -> Command) -> Result<T, OutboxError> {
        let (reply, answer) = sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| refused(BufferError::Stopped))?;
        answer.recv().map_err(|_| refused(BufferError::Stopped))?.map_err(refused)
    }

    fn read<T>(&self, read: impl FnOnce(&Connection, Position) -> Result<T, BufferError>) -> Result<T, BufferError> {
        // Before the rows: what is published is in the database already.
        let position = self.published.position();
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.file != position.file {
            *reader = Reader { db: store::open_reader(&self.medium, &self.dir)?, file: position.file };
        }
        let read = read(&reader.db, position);
        drop(reader);
        if let Err(error) = &read
            && error.is_damage()
        {
            // What can't be read here would not be read the next time either: the writer begins anew beside it.
            let (reply, condemned) = sync_channel(1);
            let (file, what) = (position.file, error.to_string());
            self.commands.send(Command::Condemn { file, what, reply }).map_err(|_| BufferError::Stopped)?;
            condemned.recv().map_err(|_| BufferError::Stopped)??;
        }
        read
    }
}

/// What was read of one batch.
enum Read {
    Absent,
    Damaged,
    Whole(Box<OutgoingBatch>),
}

impl Outbox for Shelf {
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError> {
        // What came until now is among them.
        self.published.take_older();
        self.read(|db, position| {
            let mut held: Vec<HeldStream> = Vec::new();
            let mut named = HashSet::new();
            // Newest first: what names a stream was opened behind it.
            for row in store::streams(db, STREAMS_READ_MAX)?.into_iter().rev().filter(|row| row.ordinal <= position.ordinal) {
                let current = row.ordinal == position.ordinal;
                let to_k = if current { position.next_k.checked_sub(1) } else { Some(u64::MAX) };
                let mut unreceipted = match to_k {
                    Some(to_k) => store::names(db, row.ordinal, Some(to_k), BATCHES_NAMED_MAX)?,
                    None => Vec::new(),
                };
                // A release may be under way behind the receipt.
                let receipted_k = row.receipted.as_ref().map(|(header, ..)| header.k);
                unreceipted.retain(|&(k, _)| receipted_k.is_none_or(|receipted| k > receipted));
                // Its records have moved on, no receipt vouches for it, and no stream that is shown stands on it: its open would
                // be a second successor of what it names, for nothing.
                let is_empty = row.receipted.is_none() && row.damaged.is_none() && unreceipted.is_empty();
                let is_left = is_empty && !current && !named.contains(&row.open.stream);
                if is_left && store::chunks(db, row.ordinal, 0, u64::MAX, 1)?.is_empty() {
                    continue;
                }
                named.extend(row.open.predecessor.map(|named| named.stream));
                held.push(HeldStream {
                    stream: row.open.stream,
                    opening: Opening { ..row.opening },
                    last_receipted: row.receipted,
                    unreceipted,
                    closed: row.head.is_some_and(|(header, _)| header.kind == BatchKind::Close),
                });
            }
            held.reverse();
            Ok(held)
        })
        .map_err(refused)
    }

    fn batch(&self, stream: StreamId, k: u64) -> Result<Option<OutgoingBatch>, OutboxError> {
        if self.published.take_older() {
            return Err(OutboxError::Changed);
        }
        let read = self
            .read(|db, position| {
                let Some(row) = store::stream(db, stream)? else { return Ok(Read::Absent) };
                if row.ordinal > position.ordinal || (row.ordinal == position.ordinal && k >= position.next_k) {
                    return Ok(Read::Absent);
                }
                if row.receipted.as_ref().is_some_and(|(header, ..)| k <= header.k) {
                    return Ok(Read::Absent);
                }
                let Some(batch) = store::batch(db, row.ordinal, k)? else {
                    return Ok(if is_hole(db, stream, k)? { Read::Damaged } else { Read::Absent });
                };
                Ok(whole(db, &row, batch)?.map_or(Read::Damaged, |batch| Read::Whole(Box::new(batch))))
            })
            .map_err(refused)?;
        match read {
            Read::Whole(batch) => Ok(Some(*batch)),
            Read::Absent => Ok(None),
            Read::Damaged => {
                tracing::error!(%stream, k, "a batch in the buffer is damaged: its records or its seal no longer fit its header");
                self.ask(|reply| Command::Damaged { stream, k, reply })?;
                Err(OutboxError::Damaged { stream, k })
            }
        }
    }

    fn store_receipt(&self, receipt: &Receipt) -> Result<(), OutboxError> {
        crash_point("agent/receipt-arrived");
        let ours = self.ask(|reply| Command::Receipt { receipt: receipt.clone(), reply })?;
        crash_point("agent/receipt-stored");
        if !ours {
            tracing::warn!(stream = %receipt.stream, k = receipt.k, "a receipt for a head that is not in this chain was put aside");
        }
        Ok(())
    }

    fn keep_receipt_key(&self, key: &ReceiptKey) -> Result<(), OutboxError> {
        if self.receipt_keys()?.iter().any(|kept| kept.public_key == key.public_key) {
            return Ok(());
        }
        self.ask(|reply| Command::ReceiptKey { key: key.clone(), reply })
    }

    fn receipt_keys(&self) -> Result<Vec<ReceiptKey>, OutboxError> {
        self.read(|db, _| Ok(store::receipt_keys(db)?)).map_err(refused)
    }

    fn reconcile(&self, latest: Option<StreamId>, positions: &[CollectorPosition]) -> Result<Reconciled, OutboxError> {
        self.ask(|reply| Command::Reconcile { latest, positions: positions.to_vec(), reply })
    }

    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError> {
        let done = self.ask(|reply| Command::Forked { stream, reply })?;
        if done == Reconciled::Continue {
            tracing::error!(%stream, "the collector holds two branches of this agent's streams: find the clone, then join again with a token");
        }
        Ok(done)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.published.changes()
    }
}

/// Whether batch k, of which no whole row was found, was sealed here and is still due.
fn is_hole(db: &Connection, stream: StreamId, k: u64) -> Result<bool, BufferError> {
    // Asked after the batch: of the current stream nothing is dissolved, and what was released since has its receipt.
    let current = store::state(db)?.current;
    let Some(row) = store::stream(db, stream)? else { return Ok(false) };
    if row.receipted.is_some_and(|(header, ..)| k <= header.k) {
        return Ok(false);
    }
    // The end of a former stream may have moved into its successor.
    Ok(current == Some(row.ordinal) || store::any_batch(db, row.ordinal, k)?)
}

/// The batch with its records, if they make its root, and its seal is by the key that the header before names.
fn whole(db: &Connection, row: &store::StreamRow, batch: store::BatchRow) -> Result<Option<OutgoingBatch>, BufferError> {
    let key = store::key_of(db, row, batch.header.k)?;
    if batch.header.stream != row.open.stream || !batch.is_sealed_by(key.as_ref()) {
        return Ok(None);
    }
    let store::BatchRow { header, seal, waits, .. } = batch;
    let (from, to) = (header.first_seq, end_seq(&header));
    let whole = store::chunks(db, row.ordinal, from, to, usize::MAX)?.into_iter().map(|chunk| chunk.body).collect();
    // The root vouches for records, whatever became of the row that names them.
    let body = match records_of(db, &header, whole) {
        Some(body) => Some(body),
        None => records_of(db, &header, store::bodies_between(db, row.ordinal, from, to)?),
    };
    Ok(body.map(|body| {
        let body = OutgoingBody::Plain(body);
        OutgoingBatch { header, seal, body, caller_waits: waits, named_receipts: Vec::new() }
    }))
}

/// The records that lie there, if they make the header's root.
fn records_of(db: &Connection, header: &Header, bodies: Vec<i64>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for id in bodies {
        store::read_body(db, id, &mut body).ok()?;
    }
    let leaves = addition::leaves(&body, header.count);
    if leaves.is_none_or(|leaves| Verifier::check_leaves(header, &leaves).is_err()) {
        return None;
    }
    Some(body)
}

fn refused(error: BufferError) -> OutboxError {
    OutboxError::Store(Box::new(error))
}
