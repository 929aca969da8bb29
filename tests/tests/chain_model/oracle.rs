//! What must hold after a schedule, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use edgetrail_proto::chain::{Hash, Head, Verifier};
use serde_json::Value;

use crate::collector::Collector;

/// What was committed, and what may be gone through no fault of the chain.
#[derive(Default)]
pub(crate) struct Expected {
    /// Committed and not yet seen in the ledger; nothing has happened that could take them.
    due: BTreeSet<String>,
    /// With a receipt.
    receipted: BTreeSet<String>,
    /// Without one when the host's files were lost or went back.
    at_risk: BTreeSet<String>,
    /// With a receipt of a collector that went back behind it.
    withdrawn: BTreeSet<String>,
    /// With a receipt of which the host's proof is gone: if the collector's store goes too, nobody is left to prove it.
    unproven: BTreeSet<String>,
    /// Due and at risk as the kept image knows them.
    kept: BTreeSet<String>,
    collector_kept: BTreeSet<String>,
    /// Records may stand twice, behind a report.
    may_repeat: bool,
}

impl Expected {
    pub(crate) fn committed(&mut self, names: Vec<String>) {
        self.due.extend(names);
    }

    pub(crate) fn due(&self) -> BTreeSet<String> {
        self.due.clone()
    }

    pub(crate) fn receipted(&mut self) {
        self.receipted.append(&mut self.due);
    }

    pub(crate) fn kept(&mut self) {
        self.kept = self.due.clone();
    }

    /// The host's state went back to the kept one: what the image held is due again, what came after may be gone.
    pub(crate) fn restored(&mut self) {
        self.at_risk.append(&mut self.due);
        self.forget_proofs();
        let receipted = &self.receipted;
        self.due = self.kept.iter().filter(|name| !receipted.contains(*name)).cloned().collect();
        self.at_risk.retain(|name| !self.due.contains(name));
        self.may_repeat = true;
    }

    pub(crate) fn may_repeat(&mut self) {
        self.may_repeat = true;
    }

    pub(crate) fn host_lost(&mut self) {
        self.at_risk.append(&mut self.due);
        self.forget_proofs();
    }

    fn forget_proofs(&mut self) {
        self.unproven.extend(self.receipted.iter().chain(&self.withdrawn).cloned());
    }

    pub(crate) fn collector_kept(&mut self, collector: &Collector) {
        self.collector_kept = collector.names();
    }

    pub(crate) fn collector_restored(&mut self, collector: &Collector) {
        let names = collector.names();
        let gone: Vec<String> = self.receipted.iter().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.receipted.remove(&name);
            self.withdrawn.insert(name);
        }
        self.may_repeat = true;
    }

    pub(crate) fn check(&self, collector: &Collector, schedule: &str) {
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
        let mut gaps: Vec<Value> = Vec::new();
        for entry in &entries {
            for record in &entry.records {
                let facets = record.facets.as_ref().unwrap();
                if facets.is_gap() {
                    gaps.push(serde_json::from_slice(&record.bytes).unwrap());
                }
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

        // What is gone is covered by a gap of the right kind.
        let causes = |causes: &[&str]| {
            let of = |gap: &&Value| gap["requestParameters"]["cause"].as_str().is_some_and(|cause| causes.contains(&cause));
            gaps.iter().filter(of).map(|gap| gap["requestParameters"]["count"].as_u64()).collect::<Vec<Option<u64>>>()
        };
        let gone = self.at_risk.iter().filter(|name| !seen.contains_key(*name)).count();
        if gone > 0 {
            let covering = causes(&["buffer-rollback", "buffer-damaged", "unclean-restart", "collector-lost"]);
            assert!(!covering.is_empty(), "{gone} events of the host are gone without a gap: {schedule}");
        }
        let provable = self.withdrawn.difference(&self.unproven);
        let gone = u64::try_from(provable.filter(|name| !seen.contains_key(*name)).count()).unwrap();
        if gone > 0 {
            let covering = causes(&["collector-lost", "not-received", "buffer-rollback", "buffer-damaged"]);
            let bounded = covering.iter().any(Option::is_none) || covering.iter().flatten().sum::<u64>() >= gone;
            assert!(
                !covering.is_empty() && bounded,
                "{gone} events went with the collector, gaps count {covering:?}: {schedule}"
            );
        }
    }
}
