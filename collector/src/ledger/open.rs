//! Opening a ledger: recovery, verification of every head, the writer's thread.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::segments::Segments;
use super::signers::Signers;
use super::store::LastCommit;
use super::tail::Tail;
use super::writer::{Request, Writer};
use super::{Consumers, Ledger, LedgerError, LedgerOptions, Shared, anchors, store};

/// Requests waiting for the writer; their bytes are bounded by the queue's permits.
const REQUESTS_MAX: usize = 1024;

/// The writer's thread. It lives until stopped, or ends with the error that forbids it to go on.
#[derive(Debug)]
pub struct LedgerTask {
    requests: mpsc::Sender<Request>,
    ended: oneshot::Receiver<Result<(), LedgerError>>,
    thread: thread::JoinHandle<()>,
}

impl LedgerTask {
    /// Runs until `stop`, then commits what waits and ends. An early end is an error.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        let result = tokio::select! {
            result = &mut self.ended => result,
            () = stop.cancelled() => {
                // A writer that has ended already can't be told, and need not be.
                let _sent = self.requests.send(Request::Stop).await;
                self.ended.await
            }
        };
        // The thread sent its result as its last act: joining takes no time. A panic in it shows as a dropped sender.
        let joined = self.thread.join();
        match result {
            Ok(result) if joined.is_ok() => result,
            Ok(_) | Err(_) => Err(LedgerError::Stopped),
        }
    }
}

pub(super) fn open(dir: &Path, options: LedgerOptions) -> Result<(Ledger, LedgerTask), LedgerError> {
    let medium = options.medium;
    medium.make_dir(dir).map_err(|source| LedgerError::Io { path: dir.to_owned(), source })?;
    let connection = store::open(&medium, &dir.join("ledger.sqlite"))?;
    let reader = store::open_reader(&medium, &dir.join("ledger.sqlite"))?;

    let segments_dir = dir.join("segments");
    let LastCommit { next_index, t_received, position } = store::last_commit(&connection)?;
    let segments = Segments::recover(&medium, &segments_dir, position, options.segment_bytes)?;
    let streams = verify_heads(&connection, dir)?;
    tracing::info!(next_index, streams, "ledger opened");

    let shared = Arc::new(Shared {
        medium,
        segments_dir: segments_dir.clone(),
        signers: Signers::new(options.signer, options.former_keys),
        reader: Mutex::new(reader),
        tail: Mutex::new(Tail::new(options.tail_bytes)),
        infos: Mutex::new(HashMap::new()),
        next_index: watch::Sender::new(next_index),
        consumers: Mutex::new(Consumers {
            next: options.consumers.into_iter().map(|consumer| (consumer, 0)).collect(),
            asked: Instant::now(),
        }),
        retention: options.retention,
        clock: options.clock.clone(),
    });
    let writer = Writer {
        connection,
        segments,
        segments_dir,
        shared: shared.clone(),
        role: options.role,
        next_index,
        last_received: t_received,
        evidence: options.evidence,
        clock: options.clock,
        failpoint: options.failpoint,
    };

    let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
    let (end, ended) = oneshot::channel();
    let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || {
        let result = writer.run(waiting);
        // The task that owns this thread may be gone when the process ends.
        drop(end.send(result));
    });
    let thread = thread.map_err(|source| LedgerError::Io { path: dir.to_owned(), source })?;
    let queue_permits = u32::try_from(options.queue_bytes / 1024).unwrap_or(u32::MAX).max(1);
    let ledger =
        Ledger { shared, requests: requests.clone(), queue: Arc::new(Semaphore::new(queue_permits as usize)), queue_permits };
    Ok((ledger, LedgerTask { requests, ended, thread }))
}

/// Each stream's head must be the hash of its last batch's header, else receipts would vouch for what is not there.
fn verify_heads(connection: &Connection, dir: &Path) -> Result<usize, LedgerError> {
    let streams = store::streams(connection)?;
    for row in &streams {
        let head = &row.state.head;
        let Some(k) = head.k else {
            if head.hash != row.state.info.open.hash() {
                return Err(LedgerError::DamagedRow { what: "open", row: row.id });
            }
            continue;
        };
        let committed = store::committed(connection, row.id, head.stream, k)?;
        let header = match committed {
            Some(committed) if committed.hash == head.hash => {
                store::batches(connection, committed.index, 1)?.pop().map(|row| row.header)
            }
            Some(_) => None,
            // Taken up, and nothing came since.
            None => anchors::at(connection, row.id, k)?.map(|anchor| anchor.header),
        };
        if header.is_none_or(|header| header.hash() != head.hash) {
            let path = dir.join("ledger.sqlite");
            return Err(LedgerError::Damaged { what: "a stream's head does not match its last batch", path });
        }
    }
    Ok(streams.len())
}
