//! Rows as they lie in the pages of an SQLite file: its format's chapters 1.6 (b-tree pages) and 2.1 (records).
//!
//! Input is a damaged file: nothing is believed that does not fit its page, and nothing here panics.

/// Bytes of a page; all of it is used, nothing is reserved. What the buffer's files are made with.
pub(super) const PAGE_BYTES: usize = crate::buffer::store::PAGE_BYTES as usize;

/// Longest row that is believed: a full batch with its frames.
const PAYLOAD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Page 1 begins with the file's header.
const FILE_HEADER_BYTES: usize = 100;

/// Kinds of b-tree pages that hold rows.
const LEAF_TABLE: u8 = 13;
const LEAF_INDEX: u8 = 10;
const INNER_INDEX: u8 = 2;

/// A row: where its bytes begin, and how they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Of a table with rowids.
    pub(super) rowid: Option<i64>,
    pub(super) bytes: usize,
    /// What of them lies in this page.
    pub(super) start: usize,
    pub(super) local: usize,
}

/// One column of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Blob(&'a [u8]),
    /// Text or a floating point number: no column that is looked for.
    Other,
}

/// Offsets of the cells of a page; none where it is no page of rows.
pub(super) fn offsets(number: u32, page: &[u8]) -> Vec<u16> {
    let base = if number == 1 { FILE_HEADER_BYTES } else { 0 };
    let header = match page.get(base) {
        Some(&(LEAF_TABLE | LEAF_INDEX)) => 8,
        Some(&INNER_INDEX) => 12,
        _ => return Vec::new(),
    };
    let count = u16_at(page, base + 3).unwrap_or(0);
    (0..usize::from(count)).map_while(|index| u16_at(page, base + header + 2 * index)).collect()
}

/// The cell at an offset of a page.
pub(super) fn cell(number: u32, page: &[u8], offset: u16) -> Option<Cell> {
    let base = if number == 1 { FILE_HEADER_BYTES } else { 0 };
    let kind = *page.get(base)?;
    let mut at = usize::from(offset);
    if kind == INNER_INDEX {
        // The page of lesser keys.
        at += 4;
    }
    let bytes = varint(page, &mut at)?;
    let rowid = (kind == LEAF_TABLE).then(|| varint(page, &mut at)).map(|id| id.map(u64::cast_signed));
    let rowid = match rowid {
        Some(None) => return None,
        Some(id) => id,
        None => None,
    };
    if bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let bytes = usize::try_from(bytes).ok()?;
    let local = local_bytes(bytes, kind == LEAF_TABLE);
    let end = at.checked_add(local)?.checked_add(if local < bytes { 4 } else { 0 })?;
    (end <= PAGE_BYTES && end <= page.len()).then_some(Cell { rowid, bytes, start: at, local })
}

/// How much of a row lies in its own page; the rest is in a chain of others.
const fn local_bytes(bytes: usize, table: bool) -> usize {
    let most = if table { PAGE_BYTES - 35 } else { (PAGE_BYTES - 12) * 64 / 255 - 23 };
    if bytes <= most {
        return bytes;
    }
    let least = (PAGE_BYTES - 12) * 32 / 255 - 23;
    let fitting = least + (bytes - least) % (PAGE_BYTES - 4);
    if fitting <= most { fitting } else { least }
}

/// The columns of a row; `None` where they don't fill it exactly.
pub(super) fn columns(row: &[u8]) -> Option<Vec<Value<'_>>> {
    let (kinds, mut at) = kinds(row)?;
    let mut values = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let length = length_of(kind)?;
        let bytes = row.get(at..at.checked_add(length)?)?;
        values.push(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(bytes)),
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            kind if kind >= 12 && kind.is_multiple_of(2) => Value::Blob(bytes),
            _ => Value::Other,
        });
        at += length;
    }
    (at == row.len()).then_some(values)
}

/// The serial types in the row's header, and where the first value begins. Works on the first bytes of a row alone.
pub(super) fn kinds(row: &[u8]) -> Option<(Vec<u64>, usize)> {
    let mut at = 0;
    let end = usize::try_from(varint(row, &mut at)?).ok()?;
    if end > row.len() {
        return None;
    }
    let mut kinds = Vec::new();
    while at < end {
        kinds.push(varint(row, &mut at)?);
    }
    (at == end).then_some((kinds, end))
}

/// Bytes of a value by its serial type.
pub(super) fn length_of(kind: u64) -> Option<usize> {
    match kind {
        0 | 8 | 9 => Some(0),
        1..=4 => usize::try_from(kind).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        10 | 11 => None,
        _ => usize::try_from((kind - 12) / 2).ok(),
    }
}

/// Signed, big-endian, of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|&first| first >= 0x80);
    bytes.iter().fold(if negative { -1 } else { 0 }, |value: i64, &byte| (value << 8) | i64::from(byte))
}

/// Seven bits a byte, high ones first; the ninth byte has eight.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value: u64 = 0;
    for index in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if index == 8 {
            return Some((value << 8) | u64::from(byte));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_pages_and_rows_never_panic(mut page in prop::collection::vec(any::<u8>(), 0..2 * PAGE_BYTES), number in 1u32..3) {
            if let Some(kind) = page.get_mut(if number == 1 { FILE_HEADER_BYTES } else { 0 }) {
                *kind = [LEAF_TABLE, LEAF_INDEX, INNER_INDEX, 5][usize::from(*kind % 4)];
            }
            for offset in offsets(number, &page) {
                if let Some(cell) = cell(number, &page, offset) {
                    prop_assert!(cell.start + cell.local <= page.len());
                }
            }
            let _columns = columns(&page);
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        assert_eq!(integer(&[0xff]), -1);
        assert_eq!(integer(&[0x80, 0]), -32768);
        assert_eq!(integer(&[0x7f, 0xff]), 32767);
    }
}
