//! A simulated host on which a relay runs: its ledger, ingest for agents, the forwarder, and what home says.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use edgetrail_collector::ingest::{Ingest, IngestLimits};
use edgetrail_collector::ledger::{Ledger, LedgerOptions, Role};
use edgetrail_collector::relay::{CONSUMER, Forwarder, ForwarderOptions, Home, Progress, RelayPapers};
use edgetrail_disk::Medium;
use edgetrail_link::transport::Dial;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::collector::PORT;
use crate::image::{Image, copied};
use crate::network::{Network, Port};
use crate::shelter::Shelter;

/// What outlives a crash, and the ledger while there is one.
pub(crate) struct Site {
    directory: Mutex<TempDir>,
    kept: Mutex<Option<TempDir>>,
    pub(crate) clock: WallClock,
    shelter: Arc<Shelter>,
}

/// The relay's name on the simulated network, and in its certificate.
pub(crate) fn name(number: usize) -> String {
    format!("relay-{number}")
}

impl Site {
    pub(crate) fn new(image: &Image, number: usize) -> Arc<Self> {
        let directory = Mutex::new(image.relay(number));
        Arc::new(Self { directory, kept: Mutex::default(), clock: WallClock::default(), shelter: Arc::default() })
    }

    /// The host's software: until it crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let directory = self.path();
        let papers = RelayPapers::load(&directory)?;
        let (signer, endpoint) = (Arc::new(papers.signer()), papers.home.clone());
        let (home, trust, credentials) = Home::open(directory.clone(), papers)?;
        let mut options = LedgerOptions::new(signer);
        options.role = Role::Relay;
        options.consumers = vec![CONSUMER.to_owned()];
        options.clock = self.clock.reader();
        let (ledger, task) = Ledger::open(&directory.join("ledger"), options)?;
        let _thread = self.shelter.hold(ledger.clone(), task);
        let progress = Arc::new(Progress::open(&Medium::real(), &directory)?);
        let dial: Arc<dyn Dial> = Arc::new(Network);
        let options = ForwarderOptions { dial: Arc::clone(&dial), home: endpoint, credentials };
        let (forwarder, standing) = Forwarder::new(ledger.clone(), Arc::clone(&progress), options);
        let home = home.over(dial).minding(ledger.clone(), Arc::clone(&progress), standing);
        let ingest = Ingest::trusting(ledger, Arc::new(trust), None, IngestLimits::default()).noticing(progress);
        let (port, stop) = (Port::bind(PORT).await?, CancellationToken::new());
        let ended = tokio::select! {
            ended = ingest.serve(port, stop.clone()) => format!("{ended:?}"),
            ended = forwarder.run(stop.clone()) => format!("{ended:?}"),
            () = home.run(stop.clone()) => "what home says".to_owned(),
        };
        Err(format!("the relay ended by itself: {ended}").into())
    }

    fn path(&self) -> PathBuf {
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

    pub(crate) fn settle(&self) {
        self.shelter.settle();
    }

    /// What the relay holds and home does not, if anything.
    pub(crate) fn owing(&self, home: &Ledger) -> Option<String> {
        let Some(ledger) = self.shelter.ledger() else { return Some("a relay does not run".to_owned()) };
        for state in ledger.streams().unwrap() {
            let Some(k) = state.head.k else { continue };
            if home.batch_hash(state.head.stream, k).unwrap() != Some(state.head.hash) {
                return Some(format!("home lacks batch {k} of {}", state.head.stream));
            }
        }
        None
    }
}
