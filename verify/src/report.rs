//! Findings and the two verdicts.
//!
//! *Integrity*: nothing was altered or added. *Completeness*: nothing is missing, or exactly what. A finding names the first
//! place where something is wrong; nothing that was found is left out of the report, only counted once it repeats.

use std::collections::BTreeMap;
use std::fmt;

use edgetrail_proto::identity::StreamId;
use serde::Serialize;

use crate::account::Accounts;

/// What a finding speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Integrity,
    Completeness,
    /// A host's clock contradicts what receipts and neighbours allow: neither altered nor missing, but dated wrongly.
    Time,
    /// Worth knowing; speaks against nothing.
    Note,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $verdict:ident, $says:literal;)*) => {
        /// Every rule that verification checks, one variant each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            pub const ALL: &[Check] = &[$(Check::$name,)*];

            pub const fn verdict(self) -> Verdict {
                match self { $(Check::$name => Verdict::$verdict,)* }
            }

            /// As reports and documentation name it, `digest-missing`.
            pub fn name(self) -> String {
                let mut name = String::new();
                for letter in match self { $(Check::$name => stringify!($name),)* }.chars() {
                    if letter.is_ascii_uppercase() && !name.is_empty() {
                        name.push('-');
                    }
                    name.push(letter.to_ascii_lowercase());
                }
                name
            }

            /// What has been found when the rule is broken.
            pub const fn says(self) -> &'static str {
                match self { $(Check::$name => $says,)* }
            }
        }
    };
}

checks! {
    DigestFormat = Integrity, "digest is not a whole gzip stream of a digest's JSON";
    DigestTrailing = Integrity, "bytes follow the digest's gzip stream";
    DigestMoved = Integrity, "digest does not lie where it says it does";
    DigestKeyUnknown = Integrity, "digest's public key is not among the keys given";
    DigestKeyNotValid = Integrity, "digest's public key was not valid at its end time";
    DigestSignature = Integrity, "digest's signature does not verify";
    PreviousHash = Integrity, "digest does not name the hash of the digest before it";
    PreviousSignature = Integrity, "digest does not name the signature of the digest before it";
    DigestMissing = Completeness, "digest is missing";
    DigestGap = Completeness, "no digest covers this time";
    ChainRestart = Completeness, "digest chain begins anew without a StopLogging before";
    NoDigests = Completeness, "no digest at all";
    NewestStale = Completeness, "newest digest is older than it should be";
    LogMissing = Completeness, "log file is missing";
    LogFormat = Integrity, "log file is not a whole gzip stream of records";
    LogTrailing = Integrity, "bytes follow the log file's gzip stream";
    LogHash = Integrity, "log file's hash differs from the digest's";
    LogTwice = Integrity, "log file is listed by more than one digest";
    LogUnlisted = Integrity, "log file is listed by no digest";
    LogTimes = Integrity, "digest's event times differ from the log file's";
    ProofUnnamed = Integrity, "digest names no proof file";
    ProofMissing = Completeness, "proof file is missing";
    ProofHash = Integrity, "proof file's hash differs from the digest's";
    ProofFormat = Integrity, "proof file is not a whole gzip stream of a proof's JSON";
    ProofUnlisted = Integrity, "proof file is named by no digest";
    ProofWindow = Completeness, "proof does not go on where the one before ended in the ledger";
    OpenFormat = Integrity, "stream's open can't be read";
    OpenSignature = Integrity, "stream's open is not signed by its certificate";
    OpenCertificate = Integrity, "stream's certificate does not lead to a trusted root, or names another agent";
    OpenBinding = Integrity, "stream is not bound to what it is delivered under";
    StreamChain = Integrity, "stream's chain is broken";
    StreamStart = Completeness, "stream's first batches are missing";
    StreamCounters = Integrity, "stream's counters do not add up";
    StreamPrevious = Integrity, "open names another batch of the stream before it than was committed";
    StreamTail = Completeness, "stream's last batches are missing: its successor names later ones";
    RangeLost = Completeness, "batches were lost with the collector that held them";
    RangeUnreported = Completeness, "batches are missing inside a stream, and no collector reported them lost";
    LeavesRoot = Integrity, "batch's leaf hashes do not hash to its Merkle root";
    RecordUnproven = Integrity, "record has no place in any sealed batch";
    RecordMissing = Completeness, "record that was delivered is in no log file";
    ReceiptInvalid = Integrity, "receipt does not verify or speaks of another batch";
    ReceiptMissing = Completeness, "stream has no receipt in this window";
    LedgerOrder = Integrity, "batches do not stand in the order of the ledger";
    StreamUnclosed = Completeness, "stream was superseded without a close";
    StreamSilent = Completeness, "stream was silent for longer than its heartbeat allows";
    HeadStale = Completeness, "stream's newest batch is older than its heartbeat allows";
    OpenTime = Time, "stream's open is dated before its certificate, or after the grace in which that could be renewed";
    SealTime = Time, "batch is dated outside the time that its receipts and the batch before it allow";
    ReceiptUnknown = Time, "batch names a receipt that no proof accounts for: nothing says since when it can have been sealed";
    OpenExpired = Note, "stream was opened under a certificate that had expired, within the grace for renewing it";
    SealLate = Note, "records lay unsealed, and open to the host's root, for longer than a second";
    Gap = Completeness, "events are missing, as the agent reported";
    Rehomed = Note, "records were sealed again in a successor stream";
    Quarantined = Note, "records were quarantined and delivered to no trail";
    LogPending = Note, "log file is newer than the newest digest";
    RootsNotGiven = Note, "no CA roots were given: agents' certificates are not checked against any";
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: Check,
    pub verdict: Verdict,
    /// The object, stream, batch or time it was found at.
    pub place: String,
    pub detail: String,
    /// Whose stream it concerns, where it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    pub digests: u64,
    pub log_files: u64,
    pub proofs: u64,
    pub records: u64,
    /// Records that were followed to their stream and batch.
    pub records_proven: u64,
    pub streams: u64,
    pub batches: u64,
}

/// All findings, and the verdicts that follow from them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub seen: Seen,
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`] of one check, which are only counted.
    pub more: BTreeMap<Check, u64>,
    pub accounts: Accounts,
}

/// Most findings of one check that are kept whole: a deleted folder must not fill the memory.
pub const FINDINGS_MAX: usize = 1000;

impl Report {
    pub fn find(&mut self, check: Check, place: impl fmt::Display, detail: impl fmt::Display) {
        self.keep(check, place, detail, None);
    }

    /// A finding that concerns one stream.
    pub fn find_in(&mut self, stream: StreamId, check: Check, place: impl fmt::Display, detail: impl fmt::Display) {
        self.keep(check, place, detail, Some(stream));
    }

    fn keep(&mut self, check: Check, place: impl fmt::Display, detail: impl fmt::Display, stream: Option<StreamId>) {
        if self.findings.iter().filter(|f| f.check == check).count() >= FINDINGS_MAX {
            *self.more.entry(check).or_default() += 1;
            return;
        }
        let finding = Finding { check, verdict: check.verdict(), place: place.to_string(), detail: detail.to_string(), stream };
        self.findings.push(finding);
    }

    /// The report of some streams: findings of other streams and their accounts left out.
    pub fn about(mut self, streams: &[StreamId]) -> Self {
        self.findings.retain(|finding| finding.stream.is_none_or(|stream| streams.contains(&stream)));
        self.accounts.0.retain(|stream, _| streams.contains(stream));
        self
    }

    /// Whether both verdicts hold and no time is contradicted: what exit status 0 says.
    pub fn is_good(&self) -> bool {
        [Verdict::Integrity, Verdict::Completeness, Verdict::Time].into_iter().all(|verdict| self.holds(verdict))
    }

    /// Whether nothing speaks against the verdict.
    pub fn holds(&self, verdict: Verdict) -> bool {
        !self.findings.iter().any(|finding| finding.verdict == verdict)
    }

    pub fn count_of(&self, verdict: Verdict) -> u64 {
        let more = self.more.iter().filter(|(check, _)| check.verdict() == verdict).map(|(_, more)| *more);
        self.findings.iter().filter(|finding| finding.verdict == verdict).count() as u64 + more.sum::<u64>()
    }

    pub fn count(&self, check: Check) -> u64 {
        let whole = self.findings.iter().filter(|f| f.check == check).count() as u64;
        whole + self.more.get(&check).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_name_is_the_one_in_json() {
        for check in Check::ALL {
            assert_eq!(serde_json::to_value(check).unwrap(), check.name());
        }
    }
}
