//! Follows the ledger into the open file, from the cursor that stands in it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use super::writer::{Batch, Writer};
use super::{CONSUMER, HistoryError};
use crate::ledger::{Ledger, LedgerError};

/// Commits are at least this far apart while there is little to write: an fsync costs 4 ms, and 2 s are promised.
const GATHER: Duration = Duration::from_millis(100);
/// Most record bytes read from the ledger at once.
const READ_BYTES: usize = 8 << 20;
/// After an error, before the file is opened again.
const RETRY: Duration = Duration::from_secs(1);
/// Between looks for files that have outlived retention.
const RETIRE_INTERVAL: Duration = Duration::from_secs(3600);

/// Owns the consumer; await it after its stop.
#[derive(Debug)]
pub struct HistoryTask(JoinSet<()>);

impl HistoryTask {
    pub(super) fn start(
        shelf: Arc<Shelf>,
        retention: Duration,
        ledger: Ledger,
        stop: CancellationToken,
    ) -> Result<Self, HistoryError> {
        let writer = Writer::open(Arc::clone(&shelf))?;
        let consumer = Consumer { shelf, retention, ledger, stop };
        let mut task = JoinSet::new();
        task.spawn(consumer.run(writer));
        Ok(Self(task))
    }

    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "history consumer ended abnormally");
            }
        }
    }
}

/// A history that is built anew begins with the oldest body that the ledger keeps: bodies are released in order.
fn first_kept(ledger: &Ledger, from: u64) -> Result<u64, LedgerError> {
    let (mut released, mut kept) = (from, ledger.next_index());
    while released < kept {
        let middle = released + (kept - released) / 2;
        match ledger.read(middle, 1) {
            Err(LedgerError::Released { .. }) => released = middle + 1,
            Err(error) => return Err(error),
            Ok(_) => kept = middle,
        }
    }
    Ok(kept)
}

struct Consumer {
    shelf: Arc<Shelf>,
    retention: Duration,
    ledger: Ledger,
    stop: CancellationToken,
}

impl Consumer {
    async fn run(self, mut writer: Writer) {
        let mut watch = self.ledger.watch();
        let mut retire_at = Instant::now();
        self.ledger.passed(CONSUMER, writer.next_index());
        loop {
            if Instant::now() >= retire_at {
                self.retire(&writer);
                retire_at = Instant::now() + RETIRE_INTERVAL;
            }
            let gathered = Instant::now() + GATHER;
            let caught_up = *watch.borrow_and_update() <= writer.next_index();
            if caught_up {
                tokio::select! {
                    changed = watch.changed() => if changed.is_err() { return },
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep_until(retire_at) => {}
                }
                continue;
            }
            writer = match self.step(writer).await {
                Ok(writer) => writer,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "history stands still; retrying");
                    match self.reopen().await {
                        Some(writer) => writer,
                        None => return,
                    }
                }
            };
            if *watch.borrow() <= writer.next_index() {
                tokio::select! {
                    () = tokio::time::sleep_until(gathered) => {}
                    () = self.stop.cancelled() => return,
                }
            } else if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Reads what there is and commits it.
    async fn step(&self, writer: Writer) -> Result<Writer, HistoryError> {
        let ledger = self.ledger.clone();
        let work = move || {
            let mut writer = writer;
            let entries = match ledger.read(writer.next_index(), READ_BYTES) {
                Err(LedgerError::Released { .. }) => {
                    let first = first_kept(&ledger, writer.next_index())?;
                    tracing::warn!(
                        from = writer.next_index(),
                        to = first,
                        "history begins later: the ledger keeps no older bodies"
                    );
                    writer.skip_to(first);
                    ledger.read(first, READ_BYTES)?
                }
                read => read?,
            };
            let batches: Vec<Batch<'_>> = entries.iter().map(|entry| Batch::of(entry)).collect();
            writer.append(&batches)
        };
        let writer = tokio::task::spawn_blocking(work).await.map_err(|_| HistoryError::Stopped)??;
        self.ledger.passed(CONSUMER, writer.next_index());
        Ok(writer)
    }

    async fn reopen(&self) -> Option<Writer> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => return None,
            }
            match Writer::open(Arc::clone(&self.shelf)) {
                Ok(writer) => return Some(writer),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "history cannot be opened; retrying"),
            }
        }
    }

    fn retire(&self, writer: &Writer) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = u64::try_from(now.saturating_sub(self.retention).as_nanos()).unwrap_or(0);
        match writer.retire(before) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "history files retired"),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "history files not retired"),
        }
    }
}
