//! The simulated host on which the collector runs: control store, PKI, ledger, internal stream, ingest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use edgetrail_collector::ledger::{Entry, Ledger, LedgerTask};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::image::{Image, copied};
use crate::network::Port;
use crate::stages::Stages;

pub(crate) const PORT: u16 = 7443;

/// What outlives a crash, and the ledger while there is one.
pub(crate) struct Site {
    directory: Mutex<TempDir>,
    kept: Mutex<Option<TempDir>>,
    pub(crate) clock: WallClock,
    ledger: Mutex<Option<Ledger>>,
    /// Why the ledger ended, where it should not have.
    failed: Mutex<Option<String>>,
}

/// Ends the ledger's thread when its host crashes, so that the next start finds the files alone. What waits for the
/// writer is committed: as if the crash had come a moment later.
struct LedgerThread {
    site: Arc<Site>,
    task: Option<LedgerTask>,
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        drop(self.site.ledger.lock().unwrap().take());
        let stop = CancellationToken::new();
        stop.cancel();
        if let Some(Err(error)) = self.task.take().map(|task| futures::executor::block_on(task.run(stop))) {
            *self.site.failed.lock().unwrap() = Some(error.to_string());
        }
    }
}

impl Site {
    pub(crate) fn new(image: &Image) -> Arc<Self> {
        let (clock, ledger, failed) = (WallClock::default(), Mutex::default(), Mutex::default());
        let directory = Mutex::new(image.collector());
        Arc::new(Self { directory, kept: Mutex::default(), clock, ledger, failed })
    }

    /// The host's software: until it crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let directory = self.path();
        let (stages, task) = Stages::open(&directory, Some(self.clock.reader()));
        let _thread = LedgerThread { site: Arc::clone(&self), task: Some(task) };
        *self.ledger.lock().unwrap() = Some(stages.ledger.clone());
        let (ingest, internal) = stages.ingest(&directory).await;
        let (port, stop) = (Port::bind(PORT).await?, CancellationToken::new());
        let ended = tokio::select! {
            ended = ingest.serve(port, stop.clone()) => format!("{ended:?}"),
            ended = internal.run(stop.clone()) => format!("{ended:?}"),
        };
        Err(format!("the collector ended by itself: {ended}").into())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.lock().unwrap().path().to_owned()
    }

    /// Keeps the disk as it is; the host does not run.
    pub(crate) fn keep(&self) {
        *self.kept.lock().unwrap() = Some(copied(&self.path()));
    }

    /// Puts the kept disk in the host's place; the host does not run.
    pub(crate) fn revert(&self) {
        *self.directory.lock().unwrap() = self.kept.lock().unwrap().take().expect("a disk was kept");
    }

    pub(crate) fn ledger(&self) -> Option<Ledger> {
        self.ledger.lock().unwrap().clone()
    }

    /// Waits until everything put to the ledger is durable: the disk takes none of the simulated time.
    pub(crate) fn settle(&self) {
        let ledger = self.ledger.lock().unwrap();
        let mut looks = 0;
        while ledger.as_ref().is_some_and(|ledger| !ledger.is_idle()) {
            looks += 1;
            if looks < 50 { std::thread::yield_now() } else { std::thread::sleep(std::time::Duration::from_micros(50)) }
        }
        if let Some(error) = self.failed.lock().unwrap().as_ref() {
            panic!("the ledger failed: {error}");
        }
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let ledger = self.ledger().expect("the collector runs");
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let entries = ledger.read(from, 1 << 20).unwrap();
            let Some(last) = entries.last() else { return all };
            from = last.index + 1;
            all.extend(entries);
        }
    }
}
