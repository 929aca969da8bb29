//! The load of a fault test and its oracle: a generator notes, fsynced, what the agent answered; whatever was done to the
//! programs meanwhile, each of these events is delivered exactly once, in log files that lie in exactly one digest each, and
//! the verdict of `edgetrail-verify` is integrity.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    socket: PathBuf,
    notes: PathBuf,
    /// How often a generator was started.
    runs: u32,
}

/// What became of what was answered.
#[derive(Debug)]
pub struct Outcome {
    pub answered: usize,
    pub delivered: usize,
    pub lost: Vec<String>,
    /// In more than one record.
    pub twice: Vec<String>,
    /// Of these, in records of more than one eventID: no reader could tell that they are one event.
    pub unlike: Vec<String>,
}

impl Load {
    pub fn start(deployment: &Deployment) -> Self {
        let (socket, notes) = (deployment.socket().to_owned(), deployment.dir().join("answered.txt"));
        Self { generator: generate(&socket, &notes, 0), socket, notes, runs: 1 }
    }

    /// Posts nothing more until [`Load::go_on`]; what was answered is noted.
    pub fn rest(&mut self) {
        drop(self.generator.stdin.take());
        assert!(self.generator.wait().expect("our own child can be awaited").success(), "the generator failed");
    }

    pub fn go_on(&mut self) {
        self.generator = generate(&self.socket, &self.notes, self.runs);
        self.runs += 1;
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
    pub fn finish(self, deployment: &Deployment) -> Outcome {
        let ca = deployment.ca();
        self.finish_with(deployment, &ca)
    }

    /// The same by these roots.
    pub fn finish_with(mut self, deployment: &Deployment, ca: &Path) -> Outcome {
        self.rest();
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
        let audit = deployment.verify_with(ca, &["trail"], &["-o", "json"]);
        let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
        assert_eq!(report["integrity"], true, "{report:#}");
        Outcome {
            answered: noted.len(),
            delivered: counts.len(),
            lost: noted.into_iter().filter(|id| !counts.contains_key(id)).collect(),
            twice: counts.iter().filter(|(_, ids)| ids.len() > 1).map(|(id, _)| id.clone()).collect(),
            unlike: counts.iter().filter(|(_, ids)| ids.iter().any(|id| *id != ids[0])).map(|(id, _)| id.clone()).collect(),
        }
    }

    fn noted(&self) -> Vec<String> {
        // A line that is being written is not noted yet.
        let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
        let whole = notes.rfind('\n').map_or("", |end| &notes[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

/// Posts until its standard input ends. Ids of one run are not those of another.
fn generate(socket: &Path, notes: &Path, run: u32) -> Child {
    let mut command = Command::new(binary("generator"));
    command.arg(socket).arg(notes).arg(format!("load-{run}")).stdin(Stdio::piped());
    command.spawn().expect("the generator starts")
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
        let Self { answered, delivered, lost, twice, .. } = self;
        eprintln!("{answered} answered, {delivered} delivered; lost {}, twice {}", lost.len(), twice.len());
        assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}, EDGETRAIL_SEED={seed}");
    }

    /// The same where records were rehomed: they may be delivered again, but as the same event.
    pub fn judge_rehomed(&self, seed: u64) {
        let Self { answered, delivered, lost, twice, unlike } = self;
        eprintln!(
            "{answered} answered, {delivered} delivered; lost {}, again {}, unlike {}",
            lost.len(),
            twice.len(),
            unlike.len()
        );
        assert!(lost.is_empty() && unlike.is_empty(), "lost {lost:?}, unlike {unlike:?}, EDGETRAIL_SEED={seed}");
    }
}

/// The eventIDs of the records that each generated id stands in.
fn generated(deployment: &Deployment) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, record) in delivered::records(&deployment.trail()) {
        if let Some(id) = record["requestParameters"]["generated"].as_str() {
            found.entry(id.to_owned()).or_default().push(record["eventID"].to_string());
        }
    }
    found
}
