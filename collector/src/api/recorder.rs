//! Records answered calls behind their answers: reading must not wait for a commit.
//!
//! The queue is bounded. A verified caller waits for a place in it, so none of its calls goes unrecorded while the
//! collector runs. A caller without a verified signature does not get to fill it: what finds no place is counted, and the
//! count stands in the next record of a refused call.

use std::sync::atomic::{AtomicU64, Ordering};

use edgetrail_proto::record::Record;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::internal::Internal;

/// Records waiting for their commit.
const QUEUE_MAX: usize = 1024;
/// Commits under way at once: the internal stream groups what comes together.
const COMMITS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Record>,
    /// Refused calls that found the queue full, or came after too many, since the last that was recorded.
    unrecorded: AtomicU64,
}

/// Ends when every handle of the API is dropped and what they queued is committed.
#[derive(Debug)]
pub struct RecorderTask(JoinSet<()>);

pub(super) fn start(internal: Internal) -> (Recorder, RecorderTask) {
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    let mut task = JoinSet::new();
    task.spawn(run(internal, queued));
    (Recorder { queue, unrecorded: AtomicU64::new(0) }, RecorderTask(task))
}

impl Recorder {
    pub(super) async fn record(&self, record: Record) {
        if self.queue.send(record).await.is_err() {
            tracing::error!("a call was answered after its recorder had ended");
        }
    }

    /// A refused call that is counted, not recorded: it came after too many.
    pub(super) fn pass_over(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    /// For calls whose caller is not proven.
    pub(super) fn record_refused(&self, mut record: Record) {
        let Ok(place) = self.queue.try_reserve() else {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let unrecorded = self.unrecorded.swap(0, Ordering::Relaxed);
        if unrecorded > 0 {
            let members = record.additional_event_data.get_or_insert_default();
            members.insert("edgetrail".to_owned(), json!({ "refusedCallsNotRecorded": unrecorded }));
        }
        place.send(record);
    }
}

impl RecorderTask {
    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "the recorder of API calls ended abnormally");
            }
        }
    }
}

async fn run(internal: Internal, mut queued: mpsc::Receiver<Record>) {
    let mut commits = JoinSet::new();
    while let Some(record) = queued.recv().await {
        if commits.len() >= COMMITS_MAX {
            commits.join_next().await;
        }
        let internal = internal.clone();
        commits.spawn(async move {
            let name = record.event_name.clone();
            if let Err(error) = internal.record(record).await {
                tracing::error!(error = &error as &dyn std::error::Error, call = %name, "a call could not be recorded");
            }
        });
    }
    while commits.join_next().await.is_some() {}
}
