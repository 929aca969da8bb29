//! What a database that was put aside still gives: its rows, found page by page, whatever SQLite says of the file.
//!
//! Tables are told by the shape of their rows. Nothing here is believed: a batch counts when its header hashes to what the
//! row says and its records to the header's root, a stream when its open is signed by its certificate. Only the places
//! of rows lie in memory, some 50 bytes a commit.

mod cells;
mod pages;

use std::io;
use std::ops::Range;
use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_link::body::unframe;
use edgetrail_link::outbox::Opening;
use edgetrail_link::receipt_keys::{RECEIPT_KEYS_MAX, ReceiptKey};
use edgetrail_link::tls;
use edgetrail_proto::chain::{Hash, Header, Open, PublicKey, Receipt, Seal, Verifier};
use edgetrail_proto::identity::StreamId;
use rustls_pki_types::CertificateDer;

use self::cells::Value;
use self::pages::Pages;
use super::addition;
use super::scribe::end_seq;
use super::store::{BatchRow, ChunkRow, Content, StreamRow};
use super::tally;

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    page: u32,
    offset: u16,
}

/// A damaged buffer's rows, by their keys.
#[derive(Debug)]
pub(super) struct Salvage {
    pages: Pages,
    /// By id.
    bodies: Vec<(i64, Place)>,
    /// By stream's ordinal and k.
    batches: Vec<((i64, u64), Place)>,
    /// By stream's ordinal and first_seq.
    chunks: Vec<((i64, u64), Place)>,
    streams: Vec<StreamRow>,
    receipt_keys: Vec<ReceiptKey>,
    /// Rows of streams whose open can't be read or does not hold.
    pub(super) unreadable_streams: u64,
}

/// A batch with its records, each chunk's framed.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) batch: BatchRow,
    pub(super) chunks: Vec<(ChunkRow, Vec<u8>)>,
}

impl Salvage {
    /// Looks through the file at `path` and the log beside it. Fails where neither is there.
    pub(super) fn read(medium: &Medium, path: &Path) -> io::Result<Self> {
        let pages = Pages::open(medium, path)?;
        let (bodies, batches, chunks) = (Vec::new(), Vec::new(), Vec::new());
        let (streams, receipt_keys) = (Vec::new(), Vec::new());
        let mut salvage = Self { pages, bodies, batches, chunks, streams, receipt_keys, unreadable_streams: 0 };
        let free = salvage.pages.free();
        for number in (1..=salvage.pages.count()).filter(|number| !free.contains(number)) {
            let Some(page) = salvage.pages.page(number) else { continue };
            for offset in cells::offsets(number, &page) {
                salvage.note(&page, Place { page: number, offset });
            }
        }
        salvage.bodies.sort_unstable();
        salvage.batches.sort_unstable();
        salvage.chunks.sort_unstable();
        salvage.streams.sort_by_key(|row| row.ordinal);
        Ok(salvage)
    }

    /// Notes a row by its shape: what its header says of its columns.
    fn note(&mut self, page: &[u8], place: Place) {
        let Some(cell) = cells::cell(place.page, page, place.offset) else { return };
        let Some(local) = page.get(cell.start..cell.start.saturating_add(cell.local)) else { return };
        let Some((kinds, _)) = cells::kinds(local) else { return };
        match (cell.rowid, kinds.len()) {
            (Some(id), 2) if kinds.first() == Some(&0) => self.bodies.push((id, place)),
            (Some(ordinal), 12) => match self.pages.row(page, &cell).as_deref().and_then(|row| stream_row(ordinal, row)) {
                Some(row) => self.streams.push(row),
                None => self.unreadable_streams += 1,
            },
            // A cursor has as many.
            (None, 4) => {
                let key = self.pages.row(page, &cell).as_deref().and_then(receipt_key);
                self.receipt_keys.extend(key.filter(|_| self.receipt_keys.len() < RECEIPT_KEYS_MAX));
            }
            (None, 6) => {
                if let Some(key) = self.pages.row(page, &cell).as_deref().and_then(key_of) {
                    self.batches.push((key, place));
                }
            }
            // With sums, and of before there were any.
            (None, 7 | 9) => {
                if let Some(key) = self.pages.row(page, &cell).as_deref().and_then(key_of) {
                    self.chunks.push((key, place));
                }
            }
            _ => {}
        }
    }

    /// Streams whose open holds, oldest first.
    pub(super) fn streams(&self) -> &[StreamRow] {
        &self.streams
    }

    /// The CA's statement on the key that signed a receipt. Whether it holds, those are asked to whom it is shown.
    pub(super) fn receipt_key(&self, receipt: &Receipt) -> Option<&ReceiptKey> {
        self.receipt_keys.iter().find(|key| receipt.verify(&key.public_key).is_ok())
    }

    /// Numbers of the batches of a stream that a row was found of, in order.
    pub(super) fn batch_numbers(&self, ordinal: i64) -> impl Iterator<Item = u64> + '_ {
        let mut last = None;
        keys_of(&self.batches, ordinal, 0..u64::MAX).map(|((_, k), _)| *k).filter(move |&k| last.replace(k) != Some(k))
    }

    /// A batch's row, where its header hashes to what it says.
    pub(super) fn batch(&self, stream: StreamId, ordinal: i64, k: u64) -> Option<BatchRow> {
        let rows = keys_of(&self.batches, ordinal, k..k.saturating_add(1));
        rows.filter_map(|(_, place)| batch_row(&self.pages.row_at(place.page, place.offset)?))
            .find(|row| row.header.stream == stream && row.header.k == k && row.header.hash() == row.hash)
    }

    /// A batch with its records, where they hash to its root.
    pub(super) fn whole(&self, ordinal: i64, batch: BatchRow) -> Option<Whole> {
        let header = &batch.header;
        let mut chunks = Vec::new();
        let mut leaves = Vec::new();
        for row in self.chunks(ordinal, header.first_seq..end_seq(header)) {
            let body = self.body(&row)?;
            leaves.extend(addition::leaves(&body, row.count)?);
            chunks.push((row, body));
        }
        let counted = u32::try_from(leaves.len()).is_ok_and(|count| count == header.count);
        (counted && Verifier::check_leaves(header, &leaves).is_ok()).then_some(Whole { batch, chunks })
    }

    /// Chunks with a first_seq in a range, in order, one for each; read as they are asked for.
    pub(super) fn chunks(&self, ordinal: i64, seqs: Range<u64>) -> impl Iterator<Item = ChunkRow> + '_ {
        let mut next = seqs.start;
        keys_of(&self.chunks, ordinal, seqs).filter_map(move |(_, place)| {
            let row = chunk_row(&self.pages.row_at(place.page, place.offset)?).filter(|row| row.first_seq >= next)?;
            next = row.first_seq.saturating_add(u64::from(row.count));
            Some(row)
        })
    }

    /// A chunk's records, framed, where they are as many and as long as the chunk says.
    pub(super) fn body(&self, chunk: &ChunkRow) -> Option<Vec<u8>> {
        let from = self.bodies.partition_point(|(id, _)| *id < chunk.body);
        let found = self.bodies.iter().skip(from).take_while(|(id, _)| *id == chunk.body);
        found.filter_map(|(_, place)| body(&self.pages.row_at(place.page, place.offset)?)).find(|body| {
            let leaves = addition::leaves(body, chunk.count).filter(|_| chunk.content != Content([0; 16]));
            if leaves.is_some_and(|leaves| Content::of(&leaves) != chunk.content) {
                return false;
            }
            let sizes: Option<Vec<u64>> = unframe(body).map(|record| record.ok().map(|record| record.len() as u64)).collect();
            sizes.is_some_and(|sizes| sizes.len() == chunk.count as usize && sizes.iter().sum::<u64>() == chunk.bytes)
        })
    }
}

/// The run of a stream's keys in a sorted list.
fn keys_of(keys: &[((i64, u64), Place)], ordinal: i64, range: Range<u64>) -> impl Iterator<Item = &((i64, u64), Place)> {
    let from = keys.partition_point(|(key, _)| *key < (ordinal, range.start));
    keys.iter().skip(from).take_while(move |(key, _)| *key < (ordinal, range.end))
}

fn integer(value: Option<&Value<'_>>) -> Option<i64> {
    match value? {
        Value::Integer(value) => Some(*value),
        _ => None,
    }
}

fn unsigned(value: Option<&Value<'_>>) -> Option<u64> {
    u64::try_from(integer(value)?).ok()
}

fn blob<'a>(value: Option<&Value<'a>>) -> Option<&'a [u8]> {
    match value? {
        Value::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

fn key_of(row: &[u8]) -> Option<(i64, u64)> {
    let columns = cells::columns(row)?;
    Some((integer(columns.first())?, unsigned(columns.get(1))?))
}

fn body(row: &[u8]) -> Option<Vec<u8>> {
    blob(cells::columns(row)?.get(1)).map(<[u8]>::to_vec)
}

fn receipt_key(row: &[u8]) -> Option<ReceiptKey> {
    let columns = cells::columns(row)?;
    Some(ReceiptKey {
        public_key: PublicKey(blob(columns.first())?.try_into().ok()?),
        not_before: unsigned(columns.get(1))?,
        not_after: unsigned(columns.get(2))?,
        ca_signature: blob(columns.get(3))?.to_vec(),
    })
}

fn batch_row(row: &[u8]) -> Option<BatchRow> {
    let columns = cells::columns(row)?;
    Some(BatchRow {
        header: Header::decode(blob(columns.get(2))?).ok()?,
        hash: Hash(blob(columns.get(3))?.try_into().ok()?),
        seal: Seal(blob(columns.get(4))?.try_into().ok()?),
        waits: integer(columns.get(5))? != 0,
    })
}

fn chunk_row(row: &[u8]) -> Option<ChunkRow> {
    let columns = cells::columns(row)?;
    let chunk = ChunkRow {
        first_seq: unsigned(columns.get(1))?,
        count: u32::try_from(unsigned(columns.get(2))?).ok()?,
        bytes: unsigned(columns.get(3))?,
        committed: unsigned(columns.get(4))?,
        counters: tally::decode(blob(columns.get(5))?)?,
        body: integer(columns.get(6))?,
        content: Content(blob(columns.get(7)).map_or(Some([0; 16]), |content| content.try_into().ok())?),
    };
    let sum = blob(columns.get(8));
    let ordinal = integer(columns.first())?;
    (columns.len() == 7 || sum == Some(chunk.sum(ordinal).as_slice())).then_some(chunk)
}

/// A stream whose open holds under its certificate. What else is damaged in the row is taken as not there.
fn stream_row(ordinal: i64, row: &[u8]) -> Option<StreamRow> {
    let columns = cells::columns(row)?;
    let bytes = |index: usize| blob(columns.get(index)).map(<[u8]>::to_vec);
    let certificate_chain: Vec<Vec<u8>> =
        unframe(blob(columns.get(5))?).map(|der| der.map(<[u8]>::to_vec)).collect::<Result<_, _>>().ok()?;
    let opening = Opening { open: bytes(2)?, binding: bytes(3)?, signature: bytes(4)?, certificate_chain };
    let open = Open::decode(&opening.open).ok()?;
    let leaf = CertificateDer::from_slice(opening.certificate_chain.first()?);
    let holds = Hash::of(&opening.binding) == open.binding
        && Hash::of(leaf.as_ref()) == open.certificate
        && blob(columns.get(1)) == Some(open.stream.as_bytes().as_slice())
        && tls::signed_by(&leaf, &opening.open, &opening.signature);
    if !holds {
        return None;
    }
    let header = |index: usize| {
        let header = Header::decode(blob(columns.get(index))?).ok().filter(|header| header.stream == open.stream)?;
        let seal = Seal(blob(columns.get(index + 1))?.try_into().ok()?);
        Some((header, seal))
    };
    let receipt = blob(columns.get(10)).and_then(|bytes| Receipt::decode(bytes).ok());
    let receipted = header(8).zip(receipt).map(|((header, seal), receipt)| (header, seal, receipt));
    Some(StreamRow {
        ordinal,
        head: header(6),
        receipted: receipted.filter(|(header, _, receipt)| header.hash() == receipt.head && header.stream == receipt.stream),
        damaged: None,
        opening,
        open,
    })
}
