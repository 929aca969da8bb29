//! From observations to what became of them: a caller is answered after the commit, and once for all of its request.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::observation::{Answer, GROUP_MAX, Intake, Observation, Outcome};

/// What became of a request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every observation is durable, or selection turned it away and counted it.
    Done,
    /// Something was not taken: the whole request is to be sent again. What was taken gets the same eventIDs then.
    Again { retry_after_s: u64 },
}

/// A full pipeline is waited for this long before the caller is told to come back.
const INTAKE_WAIT: Duration = Duration::from_secs(5);

/// A commit is waited for this long; it takes ≤ 100 ms on a disk that answers. A receipt may take as long as the uplink is
/// cut: callers give up after 10 s (OpenTelemetry) to 30 s (Kubernetes) themselves.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// Seconds after which a caller is to try again where nothing better is known.
const RETRY_AFTER_S: u64 = 1;

/// Hands observations to the pipeline and waits for what becomes of all of them.
pub(crate) async fn commit(intake: &Intake, observations: impl Iterator<Item = Observation>) -> Verdict {
    let deadline = tokio::time::Instant::now() + COMMIT_WAIT;
    let mut waiting = Vec::new();
    let mut observations = observations.peekable();
    while observations.peek().is_some() {
        let mut group = Vec::new();
        for mut observation in observations.by_ref().take(GROUP_MAX) {
            let (sender, receiver) = oneshot::channel();
            observation.answer = Some(Answer(sender));
            waiting.push(receiver);
            group.push(observation);
        }
        match tokio::time::timeout(INTAKE_WAIT, intake.send(group)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Verdict::Again { retry_after_s: RETRY_AFTER_S },
        }
    }
    let mut verdict = Verdict::Done;
    for answer in waiting {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Outcome::Committed { .. } | Outcome::Refused)) => {}
            Ok(Ok(Outcome::Unavailable { retry_after_s })) => verdict = Verdict::Again { retry_after_s },
            // The pipeline ended, or the disk does not answer.
            Ok(Err(_)) | Err(_) => return Verdict::Again { retry_after_s: RETRY_AFTER_S },
        }
    }
    verdict
}
