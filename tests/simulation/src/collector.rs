//! The simulated host on which the collector runs: control store, PKI, ledger, internal stream, ingest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use edgetrail_collector::ledger::{Entry, Ledger};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::image::{Image, copied};
use crate::network::Port;
use crate::shelter::Shelter;
use crate::stages::Stages;

pub(crate) const PORT: u16 = 7443;

/// What outlives a crash, and the ledger while there is one.
pub(crate) struct Site {
    directory: Mutex<TempDir>,
    kept: Mutex<Option<TempDir>>,
    pub(crate) clock: WallClock,
    shelter: Arc<Shelter>,
}

impl Site {
    pub(crate) fn new(image: &Image) -> Arc<Self> {
        let directory = Mutex::new(image.collector());
        Arc::new(Self { directory, kept: Mutex::default(), clock: WallClock::default(), shelter: Arc::default() })
    }

    /// The host's software: until it crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let directory = self.path();
        let (stages, task) = Stages::open(&directory, Some(self.clock.reader()));
        let _thread = self.shelter.hold(stages.ledger.clone(), task);
        let (ingest, internal, relays) = stages.ingest_and_relays(&directory).await;
        let (port, stop) = (Port::bind(PORT).await?, CancellationToken::new());
        let ended = tokio::select! {
            ended = ingest.serve(port, stop.clone()) => format!("{ended:?}"),
            ended = internal.run(stop.clone()) => format!("{ended:?}"),
            () = relays.run(stop.clone()) => "relays".to_owned(),
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
        self.shelter.ledger()
    }

    pub(crate) fn settle(&self) {
        self.shelter.settle();
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
