//! From ended exchanges to committed records.
//!
//! What was given a place is never dropped: what the buffer does not take is offered again, under the same eventID, until
//! it does; meanwhile it holds its place, and the queue fills. What was passed on without a place is reported as a gap:
//! after the first second, then ever more seldom while it lasts. At a stop, what the buffer still does not take becomes
//! one as well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::exchange::Exchange;
use super::jwt::Verifier;
use super::queue::{Count, Ended, Missed};
use super::standing::Standing;
use crate::clock::unix_ns;
use crate::observation::{Answer, GROUP_MAX, GapCause, Intake, Loss, Observation, Outcome, Payload, SourceName};
use crate::sources::api::AnswerAfter;

/// The end of the queue.
#[derive(Debug)]
pub(super) struct Clerk {
    pub(super) inbox: mpsc::Receiver<Ended>,
    pub(super) missed: Arc<Mutex<Missed>>,
    pub(super) intake: Intake,
    pub(super) verifier: Option<Verifier>,
    /// Whether records wait for the collector's receipt before who waits for them is told.
    pub(super) answer_after: AnswerAfter,
    /// Of which proxy it tells.
    pub(super) title: String,
    pub(super) standing: Standing,
    pub(super) sent: JoinSet<Settled>,
    /// Refused by the buffer: offered again before anything else.
    pub(super) again: Vec<Offered>,
    pub(super) is_stalled: bool,
    pub(super) gaps: GapTimer,
}

/// An exchange on its way through the pipeline.
#[derive(Debug)]
pub(super) struct Offered {
    exchange: Arc<Exchange>,
    waiter: Option<oneshot::Sender<()>>,
}

/// What became of a group.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The buffer did not take these.
    again: Vec<Offered>,
    /// The buffer has these; who waits for their receipts waits on.
    late: Vec<Late>,
}

/// Who waits for a receipt.
#[derive(Debug)]
struct Late {
    waiter: oneshot::Sender<()>,
    outcome: oneshot::Receiver<Outcome>,
}

/// When the next gap is due.
#[derive(Debug)]
pub(super) struct GapTimer {
    due: Option<Instant>,
    /// How long until the one after it.
    after: Duration,
}

/// Groups that are under way at once: with receipts, as many as come until the first of them.
const GROUPS_AT_ONCE: usize = 1024;

/// What the buffer refused is offered again after this long.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// An answer of the pipeline is waited for this long; a commit takes ≤ 100 ms on a disk that answers.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// Who has not been refused after this long is in the buffer and waits for the receipt alone: its place is free again.
const RECEIPT_FREES_AFTER: Duration = Duration::from_secs(5);

/// The first gap is due so long after the first miss.
const FIRST_GAP_AFTER: Duration = Duration::from_secs(1);

/// At most so long between two gaps.
const GAP_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long what is under way is waited for at a stop.
const STOP_WAIT: Duration = Duration::from_secs(4);

impl Default for GapTimer {
    fn default() -> Self {
        Self { due: None, after: FIRST_GAP_AFTER }
    }
}

impl Clerk {
    /// Until the queue is closed and empty, or `stop` was long enough ago.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut group = Vec::new();
        let mut deadline = None;
        let mut is_closed = false;
        while !(is_closed && self.sent.is_empty() && self.again.is_empty()) {
            let stopping = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => stop.cancelled().await,
                }
            };
            let takes = !is_closed && self.again.is_empty() && self.sent.len() < GROUPS_AT_ONCE;
            tokio::select! {
                biased;
                Some(settled) = self.sent.join_next(), if !self.sent.is_empty() => self.settle(settled.unwrap_or_default()),
                () = stopping => {
                    if deadline.is_some() {
                        break;
                    }
                    deadline = Some(Instant::now() + STOP_WAIT);
                }
                () = tokio::time::sleep(AGAIN_AFTER), if !self.again.is_empty() => {
                    let again = std::mem::take(&mut self.again);
                    self.offer(again).await;
                }
                count = self.inbox.recv_many(&mut group, GROUP_MAX), if takes => {
                    is_closed = count == 0;
                    let offered = group.drain(..).map(|ended| self.look_into(ended)).collect();
                    self.offer(offered).await;
                }
                () = self.gaps.wait(&self.missed) => self.report_gaps().await,
            }
        }
        self.end().await;
    }

    /// Says who the bearer token names: beside the request's way, for a signature takes time.
    fn look_into(&mut self, ended: Ended) -> Offered {
        let Ended { mut exchange, waiter } = ended;
        if let Some(shown) = exchange.asked.authorization.take() {
            exchange.bearer = super::jwt::look_into(self.verifier.as_mut(), &shown, exchange.time);
            if exchange.service.reads_basic() {
                exchange.asked.authorization = Some(shown);
            }
        }
        Offered { exchange: Arc::new(exchange), waiter }
    }

    async fn offer(&mut self, offered: Vec<Offered>) {
        if offered.is_empty() {
            return;
        }
        let mut group = Vec::with_capacity(offered.len());
        let mut waiting = Vec::with_capacity(offered.len());
        for Offered { exchange, waiter } in offered {
            let (answer, outcome) = oneshot::channel();
            group.push(Observation {
                source: SourceName::Proxy,
                position: exchange.position.clone(),
                time: exchange.time,
                payload: Payload::Exchange(Arc::clone(&exchange)),
                cursor: None,
                answer: Some(Answer(answer)),
            });
            waiting.push((Offered { exchange, waiter }, outcome));
        }
        // A pipeline that has stopped drops the answers: what was offered comes back.
        if self.intake.send(group).await.is_err() {
            tracing::debug!(proxy = self.title, "the pipeline has stopped");
        }
        let is_receipt = self.answer_after == AnswerAfter::Receipt;
        self.sent.spawn(settled(waiting, is_receipt));
    }

    fn settle(&mut self, settled: Settled) {
        let Settled { again, late } = settled;
        if !late.is_empty() {
            self.sent.spawn(receipts(late));
        }
        if !again.is_empty() && !self.is_stalled {
            tracing::warn!(proxy = self.title, "the buffer takes nothing: records wait in the proxy's queue");
            self.standing.say(&self.title, Some("the buffer takes nothing: records wait in the proxy's queue".to_owned()));
            self.is_stalled = true;
        }
        self.again.extend(again);
        if self.is_stalled && self.again.is_empty() && self.sent.is_empty() {
            self.is_stalled = false;
            self.standing.say(&self.title, None);
        }
    }

    /// The gap that is due; says the same in the log and the status.
    async fn report_gaps(&mut self) {
        let Missed { passed, was_full, refused } =
            std::mem::take(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut said = Vec::new();
        if passed.count > 0 {
            said.push(format!("{} requests were passed on without a record", passed.count));
            tracing::error!(proxy = self.title, count = passed.count, "requests were passed on without a record");
            self.report(passed, was_full).await;
        }
        if refused.count > 0 {
            said.push(format!("{} requests were refused, for they could not be recorded", refused.count));
            tracing::error!(proxy = self.title, count = refused.count, "requests were refused, for they could not be recorded");
        }
        if said.is_empty() {
            tracing::info!(proxy = self.title, "every request is recorded again");
        }
        self.gaps.reported(!said.is_empty());
        self.standing.say(&self.title, (!said.is_empty()).then(|| said.join("; ")));
    }

    async fn report(&self, count: Count, was_full: bool) {
        let why = if was_full { "the buffer took nothing, and the queue was full" } else { "the queue was full" };
        let evidence = format!("{}: {why}: {} requests were passed on without a record", self.title, count.count);
        let loss = Loss {
            cause: GapCause::SourceOverflow,
            count: Some(count.count),
            exact: true,
            evidence,
            from: count.from,
            to: count.to,
        };
        let gap = Observation {
            source: SourceName::Proxy,
            position: Uuid::new_v4().to_string(),
            time: unix_ns(),
            payload: Payload::Loss(loss),
            cursor: None,
            answer: None,
        };
        if self.intake.send(vec![gap]).await.is_err() {
            tracing::error!(proxy = self.title, count = count.count, "the gap could not be recorded: the pipeline has stopped");
        }
    }

    /// What could not be kept until the end becomes a gap.
    async fn end(&mut self) {
        self.inbox.close();
        let mut left = u64::try_from(self.again.len()).unwrap_or(u64::MAX);
        while self.inbox.try_recv().is_ok() {
            left = left.saturating_add(1);
        }
        if left > 0 {
            let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
            missed.passed.add_many(left);
            missed.was_full = true;
        }
        let is_missing = !self.missed.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if is_missing {
            self.report_gaps().await;
        }
    }
}

/// Waits for what becomes of a group, and tells who waits.
async fn settled(waiting: Vec<(Offered, oneshot::Receiver<Outcome>)>, is_receipt: bool) -> Settled {
    let deadline = Instant::now() + if is_receipt { RECEIPT_FREES_AFTER } else { COMMIT_WAIT };
    let (mut again, mut late) = (Vec::new(), Vec::new());
    for (offered, mut outcome) in waiting {
        match tokio::time::timeout_at(deadline, &mut outcome).await {
            Ok(Ok(Outcome::Committed { .. } | Outcome::Refused)) => tell(offered.waiter),
            Ok(Ok(Outcome::Unavailable { .. }) | Err(_)) => again.push(offered),
            Err(_) if is_receipt => late.extend(offered.waiter.map(|waiter| Late { waiter, outcome })),
            // The disk does not answer; what comes of it has the same eventID.
            Err(_) => again.push(offered),
        }
    }
    Settled { again, late }
}

/// Tells who waits for a receipt when it is there. Without one for too long they are told nothing.
async fn receipts(late: Vec<Late>) -> Settled {
    let deadline = Instant::now() + COMMIT_WAIT;
    for Late { waiter, outcome } in late {
        if let Ok(Ok(Outcome::Committed { .. } | Outcome::Refused)) = tokio::time::timeout_at(deadline, outcome).await {
            tell(Some(waiter));
        }
    }
    Settled::default()
}

/// Who has gone away needs no answer.
fn tell(waiter: Option<oneshot::Sender<()>>) {
    let is_there = waiter.is_none_or(|waiter| waiter.send(()).is_ok());
    if !is_there {
        tracing::trace!("a client did not wait for its record");
    }
}

impl GapTimer {
    /// Until a gap is due. Looks at the counts each second: who counts has no time to wake anybody.
    async fn wait(&mut self, missed: &Mutex<Missed>) {
        loop {
            if let Some(due) = self.due {
                return tokio::time::sleep_until(due).await;
            }
            if !missed.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
            }
            tokio::time::sleep(FIRST_GAP_AFTER).await;
        }
    }

    /// The next is due later than the last time where there was one, and it is over where there was none.
    fn reported(&mut self, was_missing: bool) {
        if was_missing {
            self.due = Some(Instant::now() + self.after);
            self.after = self.after.saturating_mul(2).min(GAP_AFTER_MAX);
        } else {
            *self = Self::default();
        }
    }
}
