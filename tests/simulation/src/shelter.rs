//! The ledger of a simulated host while the host runs.

use std::sync::{Arc, Mutex};

use edgetrail_collector::ledger::{Ledger, LedgerTask};
use tokio_util::sync::CancellationToken;

/// The ledger while there is one, and why it ended where it should not have.
#[derive(Default)]
pub(crate) struct Shelter {
    ledger: Mutex<Option<Ledger>>,
    failed: Mutex<Option<String>>,
}

/// Ends the ledger's thread when its host crashes, so that the next start finds the files alone. What waits for the
/// writer is committed: as if the crash had come a moment later.
pub(crate) struct LedgerThread {
    shelter: Arc<Shelter>,
    task: Option<LedgerTask>,
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        drop(self.shelter.ledger.lock().unwrap().take());
        let stop = CancellationToken::new();
        stop.cancel();
        if let Some(Err(error)) = self.task.take().map(|task| futures::executor::block_on(task.run(stop))) {
            *self.shelter.failed.lock().unwrap() = Some(error.to_string());
        }
    }
}

impl Shelter {
    /// For as long as the thread is held.
    pub(crate) fn hold(self: &Arc<Self>, ledger: Ledger, task: LedgerTask) -> LedgerThread {
        *self.ledger.lock().unwrap() = Some(ledger);
        LedgerThread { shelter: Arc::clone(self), task: Some(task) }
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
}
