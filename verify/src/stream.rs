//! One stream, batch after batch: its chain, its counters, its times, and what is missing in it.

use std::collections::VecDeque;

use edgetrail_proto::chain::{BatchKind, Hash, Head, Header, Receipt, Seal, Verifier};
use edgetrail_proto::limits::{BATCHES_NAMED_MAX, HEARTBEAT_INTERVAL, SEAL_INTERVAL, SEAL_TIME_TOLERANCE, SILENCE_MAX};
use edgetrail_proto::proof::ProofTakeUp;
use edgetrail_proto::record::format_time;

use crate::account::{Missing, StreamAccount};
use crate::opening::Opened;
use crate::receipt_keys::ReceiptKeys;
use crate::receipts::Receipts;
use crate::report::{Check, Report};

/// A batch's first commit may lie this much longer before its seal than [`SEAL_INTERVAL`]: a slow disk, a suspended host.
const SEAL_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// A stream as far as the proofs have shown it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) opened: Opened,
    pub(crate) verifier: Verifier,
    pub(crate) account: StreamAccount,
    /// Hashes of the last batches that were followed, for a successor's open to name one of them.
    hashes: VecDeque<(u64, Hash)>,
    /// Ranges of batches that were jumped over on a receipt's word, and not brought since.
    pub(crate) holes: Vec<Hole>,
    /// t_received of the latest receipt that its headers name: nothing later was sealed before it.
    sealed_after: u64,
    /// Whether receipts from before the first batch here may be named: they are in no proof that was read.
    earlier_receipts: bool,
    /// After a break nothing of the stream can be judged; it is named once.
    pub(crate) broken: bool,
    /// Its earlier batches were not to be shown here: the next proof may say where it goes on.
    pub(crate) may_be_taken_up: bool,
}

/// Batches that are missing between two that are here.
#[derive(Clone, Debug)]
pub(crate) struct Hole {
    pub(crate) missing: Missing,
    /// The head before it: the next of its batches, if it comes after all, is checked against this.
    below: Verifier,
    /// H of its last batch.
    last: Hash,
    pub(crate) place: String,
    /// When the batches before and behind it were sealed.
    pub(crate) since: u64,
    pub(crate) until: u64,
}

/// Where the evidence says that a stream goes on.
struct Anchor {
    head: Head,
    t_sealed: u64,
    receipt: Receipt,
}

/// Why a batch was not followed.
pub(crate) enum Lost {
    /// The first batch here is not the stream's first.
    Start,
    Chain(String),
}

impl Stream {
    pub(crate) fn begin(opened: Opened) -> Self {
        let binding = &opened.binding;
        let mut scopes: Vec<String> = binding.scopes().map(|(account, region)| format!("{account}/{region}")).collect();
        if binding.is_all() {
            scopes.push("*/*".to_owned());
        }
        Self {
            verifier: Verifier::begin(&opened.open),
            account: StreamAccount::begin(&opened.open, binding.host(), scopes, binding.is_all()),
            hashes: VecDeque::new(),
            holes: Vec::new(),
            sealed_after: 0,
            earlier_receipts: false,
            broken: false,
            may_be_taken_up: true,
            opened,
        }
    }

    fn has_batches(&self) -> bool {
        self.verifier.head().k.is_some()
    }

    /// Goes on behind a batch that a receipt names. Evidence that does not hold is passed over: the break it was to
    /// bridge is then found as such.
    pub(crate) fn take_up(&mut self, stated: &ProofTakeUp, keys: &ReceiptKeys, receipts: &mut Receipts) {
        let Some(Anchor { head, t_sealed, receipt }) = self.anchor(stated, keys) else { return };
        if self.verifier.head().k.is_some_and(|k| head.k < Some(k)) {
            return;
        }
        receipts.know(receipt.message_hash(), receipt.t_received);
        if self.verifier.head().k != head.k {
            self.earlier_receipts = true;
            self.account.taken_up = true;
        }
        self.account.last_sealed = t_sealed;
        self.remember(&head);
        self.verifier = Verifier::resume(head);
    }

    /// What the evidence proves, if it proves anything of this stream.
    fn anchor(&self, stated: &ProofTakeUp, keys: &ReceiptKeys) -> Option<Anchor> {
        let (header, receipt) = (Header::decode(&stated.header.0).ok()?, Receipt::decode(&stated.receipt.0).ok()?);
        let hash = header.hash();
        let names_it = (receipt.stream, receipt.k, receipt.head) == (header.stream, header.k, hash);
        let proves = keys.vouch_for(&receipt) && names_it && header.stream == self.opened.open.stream;
        proves.then(|| Anchor { head: Head::after(&header, hash), t_sealed: header.t_sealed, receipt })
    }

    /// Jumps over batches that are missing, where the evidence names the one before `header`.
    pub(crate) fn jump(
        &mut self,
        header: &Header,
        resumed: &[ProofTakeUp],
        keys: &ReceiptKeys,
        receipts: &mut Receipts,
        at: &str,
    ) {
        let due = self.verifier.next_k();
        if header.k <= due || self.verifier.head().closed {
            return;
        }
        let anchors = resumed.iter().filter_map(|stated| self.anchor(stated, keys));
        let Some(Anchor { head, t_sealed, receipt }) =
            anchors.into_iter().find(|anchor| anchor.head.k == header.k.checked_sub(1))
        else {
            return;
        };
        receipts.know(receipt.message_hash(), receipt.t_received);
        let records = head.next_seq.saturating_sub(self.verifier.head().next_seq);
        let missing = Missing { from_batch: due, to_batch: header.k - 1, records };
        self.holes.push(Hole {
            missing,
            below: self.verifier.clone(),
            last: head.hash,
            place: at.to_owned(),
            since: self.account.last_sealed,
            until: t_sealed,
        });
        // The host was there meanwhile: what is missing is not silence.
        self.account.last_sealed = t_sealed;
        self.earlier_receipts = true;
        self.remember(&head);
        self.verifier = Verifier::resume(head);
    }

    /// Takes a batch of a lost range that came after all: behind the batch below the range, or as the range's last one.
    pub(crate) fn fill(&mut self, header: &Header, seal: &Seal) -> Option<Result<(), String>> {
        let at = self.holes.iter().position(|hole| (hole.missing.from_batch..=hole.missing.to_batch).contains(&header.k))?;
        let hole = &mut self.holes[at];
        if header.k == hole.missing.from_batch {
            match hole.below.check_header(header, seal) {
                Ok(head) => {
                    if header.k == hole.missing.to_batch && head.hash != hole.last {
                        return Some(Err(format!("batch {} is not the one that a receipt names", header.k)));
                    }
                    hole.missing.records = hole.missing.records.saturating_sub(u64::from(header.count));
                    hole.missing.from_batch = hole.missing.from_batch.saturating_add(1);
                    hole.below = Verifier::resume(head);
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        } else if header.k == hole.missing.to_batch && header.hash() == hole.last {
            hole.missing.records = hole.missing.records.saturating_sub(u64::from(header.count));
            hole.missing.to_batch = hole.missing.to_batch.saturating_sub(1);
            hole.last = header.previous;
        } else {
            return Some(Err(format!("batch {} links to neither end of the range that was lost", header.k)));
        }
        if hole.missing.from_batch > hole.missing.to_batch {
            self.holes.remove(at);
        }
        Some(Ok(()))
    }

    /// Follows the stream by one batch.
    pub(crate) fn follow(
        &mut self,
        header: &Header,
        seal: &Seal,
        t_received: u64,
        receipts: &mut Receipts,
        at: &str,
        report: &mut Report,
    ) -> Result<(), Lost> {
        if !self.has_batches() && header.k > 0 {
            return Err(Lost::Start);
        }
        let head = self.verifier.check_header(header, seal).map_err(|error| Lost::Chain(error.to_string()))?;
        let (id, before) = (header.stream, self.verifier.head().counters);
        if !header.counters.balance(head.next_seq) {
            let detail = format_args!("{:?} over {} records", header.counters, head.next_seq);
            report.find_in(id, Check::StreamCounters, at, detail);
        } else if !header.counters.follow(&before) {
            report.find_in(id, Check::StreamCounters, at, format_args!("they fell from {before:?} to {:?}", header.counters));
        }
        self.check_times(header, t_received, receipts, at, report);
        self.account.batch(header, before, t_received);
        self.remember(&head);
        self.verifier = Verifier::resume(head);
        Ok(())
    }

    /// Batch k was sealed after the receipt it names and after the batch before it, before its own arrival; and never
    /// longer after the one before than a heartbeat takes.
    fn check_times(&mut self, header: &Header, t_received: u64, receipts: &mut Receipts, at: &str, report: &mut Report) {
        let (id, tolerance) = (header.stream, nanoseconds(SEAL_TIME_TOLERANCE));
        if header.last_receipt != Hash::ZERO {
            match receipts.received(&header.last_receipt) {
                Some(received) => {
                    self.sealed_after = self.sealed_after.max(received);
                    self.earlier_receipts = false;
                }
                None if self.earlier_receipts => {}
                None => receipts.miss(id, header.k, header.last_receipt, at),
            }
        }
        let sealed = header.t_sealed;
        let too_early = sealed.saturating_add(tolerance) < self.sealed_after;
        let too_late = sealed > t_received.saturating_add(tolerance);
        // The first batch is compared with the open, whose time is the same clock's.
        let before_the_last = sealed.saturating_add(tolerance) < self.account.last_sealed;
        if too_early || too_late || before_the_last {
            let detail = format!(
                "dated {}, the batch before it {}, its receipt {}, received {}",
                format_time(sealed),
                format_time(self.account.last_sealed),
                format_time(self.sealed_after),
                format_time(t_received)
            );
            report.find_in(id, Check::SealTime, at, detail);
        }
        if header.kind == BatchKind::Records && sealed.saturating_sub(header.t_min) > nanoseconds(SEAL_INTERVAL + SEAL_GRACE) {
            let detail = format_args!("from {} to {}", format_time(header.t_min), format_time(sealed));
            report.find_in(id, Check::SealLate, at, detail);
        }
        // The collector's own stream may begin long after its open.
        if !self.account.internal || self.has_batches() {
            self.check_silence(Check::StreamSilent, self.account.last_sealed, sealed, at, report);
        }
    }

    pub(crate) fn check_silence(&mut self, check: Check, from: u64, to: u64, at: &str, report: &mut Report) {
        let allowed = nanoseconds(HEARTBEAT_INTERVAL) + nanoseconds(SILENCE_MAX);
        if to.saturating_sub(from) > allowed {
            self.account.silent(from, to);
            let detail = format_args!("no batch from {} to {}", format_time(from), format_time(to));
            report.find_in(self.opened.open.stream, check, at, detail);
        }
    }

    fn remember(&mut self, head: &Head) {
        if self.hashes.len() >= BATCHES_NAMED_MAX {
            self.hashes.pop_front();
        }
        self.hashes.extend(head.k.map(|k| (k, head.hash)));
    }

    /// H_k, where batch k is among the last that were followed.
    pub(crate) fn hash_of(&self, k: u64) -> Option<Hash> {
        self.hashes.iter().rev().find(|(of, _)| *of == k).map(|(_, hash)| *hash)
    }
}

pub(crate) fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
