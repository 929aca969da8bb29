//! The agent's real buffer on a simulated disk.

use std::path::PathBuf;
use std::sync::OnceLock;

use edgetrail_agent::buffer::{Addition, Buffer, BufferError, BufferTask, Caller, Counted, Limits, Opener, Shelf, prepare};
use edgetrail_agent::enroll::{CERTIFICATE_FILE, KEY_FILE};
use edgetrail_agent::normalize::Host;
use edgetrail_agent::observation::{Answer, Outcome};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::api::AnswerAfter;
use edgetrail_proto::chain::Binding;
use tokio::sync::oneshot;

use crate::Disk;

/// The state directory's name on the disk.
pub const DIR: &str = "agent";

/// A running buffer.
#[derive(Debug)]
pub struct Agent {
    pub buffer: Buffer,
    pub shelf: Shelf,
    task: BufferTask,
}

/// What an agent is; its certificate lies on the real disk, which nothing cuts.
fn host() -> Host {
    Host {
        agent: "0190b2a4-0000-7000-8000-000000000001".parse().unwrap(),
        name: "web-1".to_owned(),
        account: "123456789012".parse().unwrap(),
        region: "dc-tokyo-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    }
}

fn identity() -> &'static std::path::Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = || {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["web-1".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join(KEY_FILE), key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join(CERTIFICATE_FILE), certificate.pem()).unwrap();
        dir
    };
    DIR.get_or_init(made).path()
}

pub fn dir(disk: &Disk) -> PathBuf {
    disk.path(DIR)
}

/// As join leaves a state directory.
pub fn join(disk: &Disk) -> Result<(), BufferError> {
    prepare(&disk.medium(), &dir(disk))
}

impl Agent {
    pub fn start(disk: &Disk) -> Result<Self, BufferError> {
        Self::start_with(disk, Limits::default())
    }

    pub fn start_with(disk: &Disk, limits: Limits) -> Result<Self, BufferError> {
        let host = host();
        let binding = Binding::one(host.account, host.region.clone(), &host.name).unwrap();
        let opener = Opener::new(host.agent, binding, identity()).unwrap();
        let (buffer, task, shelf) = Buffer::open(&disk.medium(), &dir(disk), opener, Reporter::new(host), limits)?;
        Ok(Self { buffer, shelf, task })
    }

    /// Commits records, and seals them at once where `seal`; true if the commit was answered.
    pub fn commit(&self, records: &[String], seal: bool) -> bool {
        let mut addition = Addition::default();
        records.iter().for_each(|record| addition.record(record.as_bytes(), Counted::Observed));
        let (answer, answered) = oneshot::channel();
        let committed = Outcome::Committed { event_ids: Vec::new() };
        addition.caller(Caller { answer: Answer(answer), outcome: committed.clone(), after: AnswerAfter::Commit });
        // Nobody listens to this one: it makes the batch be sealed.
        let (waiting, _waited) = oneshot::channel();
        if seal {
            addition.caller(Caller { answer: Answer(waiting), outcome: committed.clone(), after: AnswerAfter::Receipt });
        }
        self.buffer.append(addition).is_ok() && answered.blocking_recv() == Ok(committed)
    }

    /// Ends the buffer's thread as a kill would, or in order. False where an orderly end failed.
    pub fn stop(self, orderly: bool) -> bool {
        let closed = orderly && self.buffer.close().is_ok();
        let Self { buffer, shelf, task } = self;
        drop((buffer, shelf));
        task.end().unwrap();
        closed
    }
}
