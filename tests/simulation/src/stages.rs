//! The stages of a collector in this process, opened in its state directory in the order in which they need one another.

use std::path::Path;
use std::sync::Arc;

use edgetrail_collector::control::Control;
use edgetrail_collector::ingest::{Ingest, Relays, go_on_restored};
use edgetrail_collector::internal::{Home, Internal, InternalTask};
use edgetrail_collector::ledger::{Clock, Ledger, LedgerOptions, LedgerTask};
use edgetrail_collector::pki::Pki;

use crate::enrolled::{ACCOUNT, REGION};

/// The collector's name on a simulated network, and in its certificate beside its addresses.
pub const COLLECTOR: &str = "collector";

/// What ingest stands on.
#[derive(Clone, Debug)]
pub struct Stages {
    pub control: Control,
    pub pki: Pki,
    pub ledger: Ledger,
}

impl Stages {
    /// The ledger's task is the caller's to run, from here on.
    pub fn open(directory: &Path, clock: Option<Clock>) -> (Self, LedgerTask) {
        let (control, pki) = authority(directory);
        let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
        options.former_keys = pki.own_receipt_keys();
        options.clock = clock.unwrap_or(options.clock);
        let (ledger, task) = Ledger::open(&directory.join("ledger"), options).unwrap();
        (Self { control, pki, ledger }, task)
    }

    /// The internal stream, and ingest, which reports through it.
    pub async fn ingest(&self, directory: &Path) -> (Ingest, InternalTask) {
        let (ingest, task, _) = self.ingest_and_relays(directory).await;
        (ingest, task)
    }

    /// The same with what operators decide on relays: the caller's to run.
    pub async fn ingest_and_relays(&self, directory: &Path) -> (Ingest, InternalTask, Relays) {
        let Self { control, pki, ledger } = self;
        let home = Home { account: ACCOUNT.parse().unwrap(), region: REGION.parse().unwrap(), host: COLLECTOR.to_owned() };
        let (internal, task) = Internal::open(directory, ledger.clone(), pki.authority(), &home).await.unwrap();
        go_on_restored(ledger, pki, task.restored()).await.unwrap();
        let relays = Relays::start(control, pki, ledger, &internal).await.unwrap();
        (Ingest::new(ledger.clone(), control.clone(), pki, Some(internal)), task, relays)
    }
}

/// Who may join, and who vouches for it.
pub fn authority(directory: &Path) -> (Control, Pki) {
    let control = Control::open(directory).unwrap();
    let domain = "edgetrail.internal".parse().unwrap();
    let pki = Pki::open(&directory.join("pki"), domain, &[COLLECTOR.to_owned()], control.revoked()).unwrap();
    pki.trust_relays(&control.watch_relays()).unwrap();
    (control, pki)
}
