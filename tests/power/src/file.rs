//! One file on the disk: what is durable, what every reader sees, and what lies between.

use crate::rng::Rng;

/// What a power cut can tear a write at, bytes.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    durable: Vec<u8>,
    /// As the page cache shows it.
    pub(crate) current: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }

    /// The sectors that a write touches, each as a write of its own.
    fn sectors(&self) -> Vec<Self> {
        let Self::Write { offset, bytes } = self else { return vec![self.clone()] };
        let mut sectors = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(bytes.len());
            sectors.push(Self::Write { offset: offset + at, bytes: bytes[at..end].to_vec() });
            at = end;
        }
        sectors
    }

    /// What a disk may have of it that was not told to write it yet.
    fn torn(self, rng: &mut Rng, into: &mut Vec<Self>) {
        match rng.below(5) {
            0 | 1 => into.push(self),
            2 => {}
            3 => {
                let mut sectors = self.sectors();
                sectors.truncate(rng.below(sectors.len() + 1));
                into.extend(sectors);
            }
            _ => match &self {
                // The length reached the disk, the bytes did not.
                Self::Write { offset, bytes } if rng.one_in(2) => {
                    let end = offset + bytes.len();
                    into.push(Self::Write { offset: end.saturating_sub(1), bytes: vec![0] });
                }
                _ => into.extend(self.sectors().into_iter().filter(|_| rng.one_in(2))),
            },
        }
    }
}

impl File {
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    pub(crate) fn set_length(&mut self, length: usize) {
        self.current.resize(length, 0);
        self.pending.push(Change::Length(length));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: what is pending may or may not be written, and will not be tried again.
    pub(crate) fn fail_sync(&mut self, rng: &mut Rng) {
        self.settle(rng);
    }

    /// What the disk has when the power comes back.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) {
        self.settle(rng);
        self.current = self.durable.clone();
    }

    fn settle(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let mut kept = Vec::new();
        match rng.below(4) {
            0 => {}
            1 => kept = pending,
            2 => {
                let whole = rng.below(pending.len() + 1);
                for (index, change) in pending.into_iter().take(whole + 1).enumerate() {
                    if index < whole { kept.push(change) } else { change.torn(rng, &mut kept) }
                }
            }
            _ => {
                pending.into_iter().for_each(|change| change.torn(rng, &mut kept));
                rng.shuffle(&mut kept);
            }
        }
        kept.iter().for_each(|change| change.apply(&mut self.durable));
    }

    /// Replaces everything, durably: damage that no program did.
    pub(crate) fn replace(&mut self, content: Vec<u8>) {
        self.pending.clear();
        (self.durable, self.current) = (content.clone(), content);
    }
}
