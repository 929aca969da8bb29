//! The agent's real buffer on a simulated disk.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use edgetrail_agent::buffer::{Addition, Buffer, BufferError, BufferTask, Caller, Counted, Limits, Opener, Shelf, prepare};
use edgetrail_agent::enroll::{CERTIFICATE_FILE, KEY_FILE};
use edgetrail_agent::normalize::Host;
use edgetrail_agent::observation::{Answer, Cursor, Outcome, SourceName};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::api::AnswerAfter;
use edgetrail_proto::chain::Binding;
use tokio::sync::oneshot;

use crate::Disk;

/// The state directory's name on the disk.
pub const DIR: &str = "agent";

/// A buffer that failed is open again after a second, or after a few.
const ANSWER_MAX: Duration = Duration::from_secs(60);

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

/// `None` where the buffer ended without an answer; one that neither answers nor ends has failed the test.
fn wait(mut answered: oneshot::Receiver<Outcome>) -> Option<Outcome> {
    let started = Instant::now();
    let mut looks = 0;
    loop {
        match answered.try_recv() {
            Ok(outcome) => return Some(outcome),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        assert!(started.elapsed() < ANSWER_MAX, "the buffer neither answers nor refuses");
        looks += 1;
        if looks < 200 { std::thread::yield_now() } else { std::thread::sleep(Duration::from_micros(100)) }
    }
}

impl Agent {
    pub fn start(disk: &Disk) -> Result<Self, BufferError> {
        // No ballast: laying it would be most of what the disk does.
        Self::start_with(disk, Limits { reserve_bytes: 0, ..Limits::default() })
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
        self.add(Addition::default(), records, seal)
    }

    /// The same of a source that reached a place with these records.
    pub fn commit_up_to(&self, place: &str, records: &[String]) -> bool {
        let mut addition = Addition::default();
        addition.cursor(SourceName::File, Cursor { key: "log".to_owned(), value: place.as_bytes().to_vec() });
        self.add(addition, records, false)
    }

    fn add(&self, mut addition: Addition, records: &[String], seal: bool) -> bool {
        records.iter().for_each(|record| addition.record(record.as_bytes(), Counted::Observed));
        let (answer, answered) = oneshot::channel();
        let committed = Outcome::Committed { event_ids: Vec::new() };
        addition.caller(Caller { answer: Answer(answer), outcome: committed.clone(), after: AnswerAfter::Commit });
        // Nobody listens to this one: it makes the batch be sealed.
        let (waiting, _waited) = oneshot::channel();
        if seal {
            addition.caller(Caller { answer: Answer(waiting), outcome: committed.clone(), after: AnswerAfter::Receipt });
        }
        self.buffer.append(addition).is_ok() && wait(answered) == Some(committed)
    }

    /// Hands records over as a pull source does: nobody waits for the commit.
    pub fn hand_over(&self, records: &[String]) -> bool {
        let mut addition = Addition::default();
        records.iter().for_each(|record| addition.record(record.as_bytes(), Counted::Observed));
        self.buffer.append(addition).is_ok()
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
