//! The load of a fault test and its oracle: a generator notes, fsynced, what the agent answered; whatever was done to the
//! programs meanwhile, each of these events is delivered exactly once, in log files that lie in exactly one digest each, and
//! the verdict of `edgetrail-verify` is integrity.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::delivered;
use crate::deployment::Deployment;
use crate::process::{binary, text};
use crate::wait;

/// A generator at work on a deployment's first agent.
#[derive(Debug)]
pub struct Load {
    generator: Child,
    notes: PathBuf,
}

/// What became of what was answered.
#[derive(Debug)]
pub struct Outcome {
    pub answered: usize,
    pub delivered: usize,
    pub lost: Vec<String>,
    pub twice: Vec<String>,
}

impl Load {
    pub fn start(deployment: &Deployment) -> Self {
        let notes = deployment.dir().join("answered.txt");
        let generator = Command::new(binary("generator"))
            .args([deployment.socket().as_os_str(), notes.as_os_str(), "load".as_ref()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the generator starts");
        Self { generator, notes }
    }

    /// How many events were answered so far.
    pub fn answered(&self) -> usize {
        self.noted().len()
    }

    /// Waits until `more` events are answered than now.
    pub fn wait_for(&self, more: usize) {
        let before = self.answered();
        wait::until("events to be answered", Duration::from_secs(60), || (self.answered() >= before + more).then_some(()));
    }

    /// Ends the load, waits until all of it is delivered and digested, and judges.
    pub fn finish(mut self, deployment: &Deployment) -> Outcome {
        drop(self.generator.stdin.take());
        assert!(self.generator.wait().expect("our own child can be awaited").success(), "the generator failed");
        let noted = self.noted();
        assert!(!noted.is_empty(), "nothing was answered");
        wait::until("all answered events in log files", Duration::from_secs(180), || {
            let counts = generated(deployment);
            noted.iter().all(|id| counts.contains_key(id)).then_some(())
        });
        deployment.wait_until_all_digested();
        let counts = generated(deployment);
        let coverage = delivered::digest_coverage(&deployment.trail());
        assert!(coverage.values().all(|times| *times == 1), "each log file is in exactly one digest");
        let audit = deployment.verify(&["-o", "json"]);
        let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
        assert_eq!(report["integrity"], true, "{report:#}");
        Outcome {
            answered: noted.len(),
            delivered: counts.len(),
            lost: noted.into_iter().filter(|id| !counts.contains_key(id)).collect(),
            twice: counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.clone()).collect(),
        }
    }

    fn noted(&self) -> Vec<String> {
        // A line that is being written is not noted yet.
        let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
        let whole = notes.rfind('\n').map_or("", |end| &notes[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        drop(self.generator.kill());
        drop(self.generator.wait());
    }
}

impl Outcome {
    /// Prints the figures and fails on any loss or duplicate.
    pub fn judge(&self, seed: u64) {
        let Self { answered, delivered, lost, twice } = self;
        eprintln!("{answered} answered, {delivered} delivered; lost {}, twice {}", lost.len(), twice.len());
        assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}, EDGETRAIL_SEED={seed}");
    }
}

/// How often each generated id stands in log files.
fn generated(deployment: &Deployment) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for (_, record) in delivered::records(&deployment.trail()) {
        if let Some(id) = record["requestParameters"]["generated"].as_str() {
            *counts.entry(id.to_owned()).or_default() += 1;
        }
    }
    counts
}
