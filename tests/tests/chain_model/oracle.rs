//! What must hold after a schedule, whatever happened in it.
//!
//! An event whose commit returned is in the ledger, or a gap bounds it that is for such a loss; a gap of another kind does
//! not count, and one that fell due anyway neither:
//!
//! | destroyed by | must be covered by | its count |
//! | --- | --- | --- |
//! | the database is gone | `buffer-damaged` over its time | nobody has it: null |
//! | the database is older than the key file | `buffer-rollback` over its time | the same |
//! | the same, but nothing had been sealed since | `unclean-restart` over its time: what is not sealed yet | the same |
//! | an image of a host that was cut off | the same, from the image's last commit on | the same |
//! | an image behind an orderly stop | nothing on the host can tell; if the collector knew more, the successor's own cause | - |
//! | the collector went back, the host has the receipt | `collector-lost` or `not-received` over its very batch | exact: at least as many as are gone in that range |
//! | both went back | nobody is left to prove it | - |

use std::collections::{BTreeMap, BTreeSet};

use edgetrail_proto::chain::{Cause, Hash, Head, Verifier};
use edgetrail_proto::identity::StreamId;

use crate::collector::Collector;
use crate::gaps;
use crate::host::{Host, Restored};

/// How an event that a step destroyed may be missing.
#[derive(Clone, Debug, Default)]
struct AtRisk {
    /// One of these gaps covers it. Several steps destroy the gap of the one before, too.
    causes: BTreeSet<&'static str>,
    /// No gap can, but the cause of a successor says that something was cut off.
    by_successor: bool,
    /// Whoever could know is gone.
    unknowable: bool,
}

/// What was committed, and what may be gone through no fault of the chain.
#[derive(Default)]
pub(crate) struct Expected {
    /// Committed and not yet seen in the ledger; nothing has happened that could take them.
    due: BTreeSet<String>,
    /// When each was committed, by the host's clock, whole seconds.
    committed: BTreeMap<String, u64>,
    /// With a receipt.
    receipted: BTreeSet<String>,
    /// Without one when the host's files were lost or went back.
    at_risk: BTreeMap<String, AtRisk>,
    /// With a receipt of a collector that went back behind it.
    withdrawn: BTreeSet<String>,
    /// With a receipt of which the host's proof is gone: if the collector's store goes too, nobody is left to prove it.
    unproven: BTreeSet<String>,
    /// Due as the kept image knows them.
    kept: BTreeSet<String>,
    /// In which batches of the ledger each was seen.
    places: BTreeMap<String, BTreeSet<(StreamId, u64)>>,
    /// Records may stand twice, behind a report.
    may_repeat: bool,
    /// The host's clock was set: times do not compare.
    clock_set: bool,
    /// It was set back, and a start behind that saw it.
    clock_back: bool,
    /// Something on the host or in the collector is gone: what was told of it may be gone with it.
    disturbed: bool,
    forked: bool,
}

impl Expected {
    pub(crate) fn committed(&mut self, names: Vec<String>, at: u64) {
        self.committed.extend(names.iter().map(|name| (name.clone(), at)));
        self.due.extend(names);
    }

    pub(crate) fn due(&self) -> BTreeSet<String> {
        self.due.clone()
    }

    pub(crate) fn receipted(&mut self, collector: &Collector) {
        self.receipted.append(&mut self.due);
        self.seen_in(collector);
    }

    pub(crate) fn seen_in(&mut self, collector: &Collector) {
        for (name, places) in collector.places() {
            self.places.entry(name).or_default().extend(places);
        }
    }

    pub(crate) fn kept(&mut self) {
        self.kept = self.due.clone();
    }

    /// What is due, and what was at risk before, is to be covered so from here on.
    fn destroyed(&mut self, cause: Option<&'static str>, by_successor: bool) {
        self.disturbed = true;
        for name in std::mem::take(&mut self.due) {
            self.at_risk.entry(name).or_default();
        }
        for risk in self.at_risk.values_mut() {
            risk.causes.extend(cause);
            risk.by_successor |= by_successor;
            risk.unknowable |= cause.is_none() && !by_successor;
        }
        self.unproven.extend(self.receipted.iter().chain(&self.withdrawn).cloned());
    }

    /// What the image held is due again, what came after may be gone.
    fn back_to_image(&mut self) {
        let receipted = &self.receipted;
        self.due = self.kept.iter().filter(|name| !receipted.contains(*name)).cloned().collect();
        self.at_risk.retain(|name, _| !self.due.contains(name));
        self.may_repeat = true;
    }

    /// The host's state went back to the kept one.
    pub(crate) fn restored(&mut self, restored: Restored) {
        let Restored { closed, known_beyond } = restored;
        self.destroyed((!closed).then_some("unclean-restart"), closed && known_beyond);
        self.back_to_image();
    }

    /// The database alone went back to the kept one.
    pub(crate) fn tail_lost(&mut self, key_file_ahead: bool) {
        self.destroyed(Some(if key_file_ahead { "buffer-rollback" } else { "unclean-restart" }), false);
        self.back_to_image();
    }

    pub(crate) fn buffer_lost(&mut self) {
        self.destroyed(Some("buffer-damaged"), false);
    }

    /// Before this host's next start; `unclean` starts came before.
    pub(crate) fn clock_set(&mut self, back: bool, unclean: u64) {
        self.clock_set = true;
        // Before the first commit, a report of the host's own too, there is nothing to compare it with.
        self.clock_back |= back && (!self.committed.is_empty() || unclean > 0);
    }

    /// Both hold the same records, and one of them will have to go on behind a report.
    pub(crate) fn cloned(&mut self) {
        self.may_repeat = true;
        self.disturbed = true;
        self.forked = true;
    }

    pub(crate) fn forked(&self) -> bool {
        self.forked
    }

    pub(crate) fn collector_restored(&mut self, collector: &Collector) {
        let names = collector.names();
        let gone: Vec<String> = self.receipted.iter().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.receipted.remove(&name);
            self.withdrawn.insert(name);
        }
        for risk in self.at_risk.values_mut() {
            // The host's own gap may have gone with it: then the batch in which it lay is missing, and told.
            risk.causes.extend(["collector-lost", "not-received"]);
            // What it knew of a later stream it may have forgotten.
            risk.unknowable |= risk.by_successor;
        }
        self.may_repeat = true;
        self.disturbed = true;
    }

    pub(crate) fn check(&self, collector: &Collector, host: &Host, schedule: &str) {
        let entries = collector.entries();
        // Chains, seals, roots and counters, by the verifier that auditors use.
        let mut streams = BTreeMap::new();
        for entry in &entries {
            let anchors = || {
                let anchors = collector.ledger().anchors(entry.stream_id()).unwrap();
                anchors.into_iter().map(|anchor| (anchor.header.k, Head::after(&anchor.header, anchor.hash))).collect()
            };
            let (verifier, anchors): &mut (Verifier, BTreeMap<u64, Head>) =
                streams.entry(entry.stream_id()).or_insert_with(|| (Verifier::begin(&entry.stream.open), anchors()));
            let jump = entry.header.k.checked_sub(1).and_then(|before| anchors.get(&before));
            if let Some(anchor) = jump.filter(|_| entry.header.k > verifier.next_k()) {
                *verifier = Verifier::resume(anchor.clone());
            }
            let leaves: Vec<Hash> = entry.records.iter().map(|record| record.leaf).collect();
            let head = verifier.accept(&entry.header, &entry.seal, &leaves).unwrap_or_else(|error| panic!("{error}: {schedule}"));
            assert!(head.counters.balance(head.next_seq), "counters of {}: {:?}: {schedule}", entry.stream_id(), head.counters);
        }

        // Every event that has a receipt is there; where one stands twice, one of them is behind a report.
        let mut seen: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        let mut reported = BTreeSet::new();
        for entry in &entries {
            for record in &entry.records {
                let facets = record.facets.as_ref().unwrap();
                if facets.name == "ReportRehomed" {
                    reported.insert(entry.stream_id());
                }
                if facets.source == "sudo.linux" {
                    seen.entry(facets.name.clone()).or_default().push(reported.contains(&entry.stream_id()));
                }
            }
        }
        for name in &self.receipted {
            assert!(seen.contains_key(name), "{name} has a receipt and is not in the ledger: {schedule}");
        }
        for (name, places) in &seen {
            let once = places.len() == 1 || (self.may_repeat && places.iter().any(|behind| *behind));
            assert!(once, "{name} stands {} times in the ledger: {schedule}", places.len());
        }

        let told = gaps::gaps(collector);
        self.check_host_losses(&told, collector, host, &seen, schedule);
        self.check_collector_losses(&told, &seen, schedule);
        self.check_starts(&told, host, schedule);
    }

    /// What the host's files took with them is covered by a gap that is for it, over the time of its commit.
    fn check_host_losses(
        &self,
        told: &[gaps::Gap],
        collector: &Collector,
        host: &Host,
        seen: &BTreeMap<String, Vec<bool>>,
        schedule: &str,
    ) {
        // Where a count is known, it is of all that the gap covers.
        let mut by_causes: BTreeMap<&BTreeSet<&str>, u64> = BTreeMap::new();
        for (name, risk) in self.at_risk.iter().filter(|(name, risk)| !seen.contains_key(*name) && !risk.unknowable) {
            let covering = gaps::of(told, &risk.causes);
            let at = self.committed[name];
            let covered = covering.iter().any(|gap| self.clock_set || gap.is_of_batches() || gap.covers_time(at));
            let causes = collector.causes(host);
            let cut_off = || causes.iter().any(|cause| matches!(cause, Cause::Rollback | Cause::RestoredBehindLater));
            assert!(
                covered || (risk.by_successor && cut_off()),
                "{name}, committed at {at}, is gone without a gap of {:?}, told are {told:#?}, by {causes:?}: {schedule}",
                risk
            );
            *by_causes.entry(&risk.causes).or_default() += u64::from(covered);
        }
        for (causes, gone) in by_causes {
            let covering = gaps::of(told, causes);
            if covering.iter().any(|gap| gap.is_of_batches()) {
                continue;
            }
            let counted: Option<u64> = covering.iter().map(|gap| gap.count).sum();
            assert!(counted.is_none_or(|counted| counted >= gone), "{gone} are gone, {causes:?} count {counted:?}: {schedule}");
        }
    }

    /// What went with the collector, and the host can still prove, is counted exactly, over the very batches.
    fn check_collector_losses(&self, told: &[gaps::Gap], seen: &BTreeMap<String, Vec<bool>>, schedule: &str) {
        let lost = gaps::of(told, &BTreeSet::from(["collector-lost", "not-received"]));
        let mut counted: Vec<u64> = vec![0; lost.len()];
        let provable = self.withdrawn.difference(&self.unproven);
        for name in provable.filter(|name| !seen.contains_key(*name)) {
            let places = &self.places[name];
            let covering = lost.iter().position(|gap| places.iter().any(|(stream, k)| gap.covers_batch(*stream, *k)));
            let covering = covering.unwrap_or_else(|| {
                panic!("{name} went with the collector from {places:?}, of which no gap tells; told are {told:#?}: {schedule}")
            });
            counted[covering] += 1;
        }
        for (gap, gone) in lost.iter().zip(counted) {
            let enough = gone == 0 || gap.count.is_some_and(|count| count >= gone);
            assert!(enough, "{gone} events went with the collector in the range of {gap:?}: {schedule}");
        }
    }

    /// Nothing is told that was not, and each cut of the host is told once.
    fn check_starts(&self, told: &[gaps::Gap], host: &Host, schedule: &str) {
        let count = |cause| u64::try_from(gaps::of(told, &BTreeSet::from([cause])).len()).unwrap();
        if self.disturbed {
            return;
        }
        assert_eq!(count("unclean-restart"), host.unclean_starts(), "each unclean start is told once: {schedule}");
        for cause in ["buffer-damaged", "buffer-rollback", "collector-lost", "not-received"] {
            assert_eq!(count(cause), 0, "{cause} where nothing was lost: {schedule}");
        }
        let set_back = count("clock-step") > 0;
        assert_eq!(set_back, self.clock_back, "a clock that was set back over a restart is told: {schedule}");
    }
}
