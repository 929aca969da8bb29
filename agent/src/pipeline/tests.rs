//! From an observation to a commit, and what a full buffer makes of it.

use edgetrail_link::outbox::Outbox;
use tokio::sync::oneshot;

use super::*;
use crate::buffer::tests::opener;
use crate::buffer::{BufferTask, Limits, Shelf, prepare};
use crate::normalize::audit::Decoder;
use crate::normalize::names::Names;
use crate::observation::{GapCause, Intake, Loss, intake};
use crate::report::Reporter;
use crate::report::tests::host;
use crate::sources::api::{Peer, Post, Sender};
use crate::{redact, select};

fn post(text: &str, position: &str) -> (Observation, oneshot::Receiver<Outcome>) {
    let (answer, outcome) = oneshot::channel();
    let peer = Peer { uid: 0, gid: 0, pid: 1, exe: Some("/bin/app".to_owned()), login_uid: None, session: None };
    let observation = Observation {
        source: SourceName::Api,
        position: position.to_owned(),
        time: unix_ns(),
        payload: Payload::Post(Post { event: text.as_bytes().to_vec().into(), sender: Sender::Process(peer), trace: None }),
        cursor: None,
        answer: Some(Answer(answer)),
    };
    (observation, outcome)
}

fn gap(count: u64) -> Observation {
    let loss =
        Loss { cause: GapCause::SourceOverflow, count: Some(count), exact: true, evidence: "test".to_owned(), from: 1, to: 2 };
    Observation {
        source: SourceName::Audit,
        position: "gap".to_owned(),
        time: unix_ns(),
        payload: Payload::Loss(loss),
        cursor: None,
        answer: None,
    }
}

fn event(name: &str, category: &str) -> String {
    format!(r#"{{"eventSource":"app.example","eventName":"{name}","eventCategory":"{category}"}}"#)
}

/// Records that are sealed, over all streams.
fn sealed(shelf: &Shelf) -> Vec<String> {
    let mut records = Vec::new();
    for held in shelf.held().unwrap() {
        for (k, _) in held.unreceipted {
            let batch = shelf.batch(held.stream, k).unwrap().unwrap();
            records.extend(
                edgetrail_link::body::unframe(batch.body.plain().unwrap())
                    .map(|r| String::from_utf8(r.unwrap().to_vec()).unwrap()),
            );
        }
    }
    records
}

/// A buffer with a pipeline before it.
struct Piped {
    dir: tempfile::TempDir,
    buffer: Buffer,
    task: BufferTask,
    shelf: Shelf,
    pipeline: PipelineTask,
    intake: Intake,
    stop: CancellationToken,
}

fn open(dir: &std::path::Path, limits: Limits) -> (Buffer, BufferTask, Shelf) {
    let medium = edgetrail_disk::Medium::real();
    Buffer::open(&medium, dir, opener(dir, "web-1"), Reporter::new(host()), limits).unwrap()
}

impl Piped {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(&edgetrail_disk::Medium::real(), dir.path()).unwrap();
        let (buffer, task, shelf) = open(dir.path(), limits);
        let normalizer = Normalizer::new(host(), Decoder::default(), Names::default());
        let selection = Selection::new(&select::Config::default());
        let redactor = Redactor::new(redact::Config::default()).unwrap();
        let sources = vec![SourceName::Api];
        let pipeline = Pipeline::new(normalizer, sources, selection, redactor, buffer.clone(), Answering::new(), tap()).unwrap();
        let ((intake, outlet), stop) = (intake(), CancellationToken::new());
        let pipeline = pipeline.start(outlet, Handle::current(), stop.clone()).unwrap();
        Self { dir, buffer, task, shelf, pipeline, intake, stop }
    }

    /// Ends everything in order; gives what is sealed, and the state directory.
    async fn end(self) -> (Vec<String>, tempfile::TempDir) {
        let Self { dir, buffer, task, shelf, pipeline, intake, stop } = self;
        stop.cancel();
        drop(intake);
        let ended = tokio::task::spawn_blocking(move || {
            pipeline.join().unwrap();
            buffer.close().unwrap();
            let records = sealed(&shelf);
            drop((buffer, shelf));
            task.end().unwrap();
            let seen = crate::buffer::status(dir.path()).unwrap().counters;
            assert_eq!(seen.observed, seen.refused + seen.lost_agent + (records.len() as u64 - seen.own), "{seen:?}");
            (records, dir)
        });
        ended.await.unwrap()
    }
}

async fn piped(limits: Limits, observations: Vec<Observation>) -> Vec<String> {
    let piped = Piped::start(limits);
    let prompt = piped.intake.clone().prompt();
    let mut observations = observations.into_iter().peekable();
    while observations.peek().is_some() {
        let group: Vec<_> = observations.by_ref().take(GROUP_MAX).collect();
        let is_pulled = group.iter().all(|observation| observation.source == SourceName::File);
        if is_pulled { &piped.intake } else { &prompt }.send(group).await.unwrap();
    }
    drop(prompt);
    piped.end().await.0
}

#[tokio::test]
async fn a_posted_event_is_committed_and_its_caller_answered() {
    let (observation, outcome) = post(&event("DeleteThing", "Management"), "0:1");
    let records = piped(Limits::default(), vec![observation]).await;
    let Outcome::Committed { event_ids } = outcome.await.unwrap() else { panic!("not committed") };
    assert!(records.iter().any(|record| record.contains("DeleteThing") && record.contains(&event_ids[0].to_string())));
}

#[tokio::test]
async fn what_selection_refuses_is_counted_and_told() {
    let (observation, outcome) = post(&event("ReadThing", "Data"), "0:2");
    let records = piped(Limits::default(), vec![observation]).await;
    assert_eq!(outcome.await.unwrap(), Outcome::Refused);
    assert!(!records.iter().any(|record| record.contains("ReadThing")));
}

#[tokio::test]
async fn without_room_callers_are_sent_away_and_gaps_still_stand() {
    let limits = Limits { max_bytes: 1, ..Limits::default() };
    let (observation, outcome) = post(&event("DeleteThing", "Management"), "0:3");
    let records = piped(limits, vec![gap(7), observation]).await;
    assert_eq!(outcome.await.unwrap(), Outcome::Unavailable { retry_after_s: RETRY_AFTER_S });
    assert!(records.iter().any(|record| record.contains("ReportGap") && record.contains(r#""count":7"#)));
}

/// Input of a source that makes one record.
fn unparsed(source: SourceName, at: usize) -> Observation {
    let unparsed = crate::observation::Unparsed { bytes: b"?".to_vec(), reason: "test".to_owned() };
    let cursor = Some(Cursor { key: source.as_str().to_owned(), value: at.to_string().into_bytes() });
    Observation { source, position: at.to_string(), time: unix_ns(), payload: Payload::Unparsed(unparsed), cursor, answer: None }
}

/// The counts of the gaps of a cause.
fn counts(records: &[String], cause: GapCause) -> Vec<u64> {
    let gaps = records.iter().filter(|record| record.contains(&format!(r#""cause":"{cause}""#)));
    gaps.map(|gap| serde_json::from_str::<serde_json::Value>(gap).unwrap()["requestParameters"]["count"].as_u64().unwrap())
        .collect()
}

/// How many gaps of a cause there are.
fn gaps(records: &[String], cause: GapCause) -> usize {
    records.iter().filter(|record| record.contains(&format!(r#""cause":"{cause}""#))).count()
}

#[tokio::test]
async fn what_the_kernel_brings_beyond_a_full_buffer_is_shed_into_an_exact_gap() {
    let limits = Limits { max_bytes: 1, ..Limits::default() };
    let shed = 700;
    let observations = (0..KERNEL_MAX + shed).map(|at| unparsed(SourceName::Audit, at)).chain([gap(7)]).collect();
    let records = piped(limits, observations).await;
    assert_eq!(counts(&records, GapCause::BufferFull).iter().sum::<u64>(), shed as u64);
    assert_eq!(counts(&records, GapCause::SourceOverflow), [7], "a gap is never shed");
    assert_eq!(records.iter().filter(|record| record.contains("UnparsedObservation")).count(), KERNEL_MAX);
}

#[tokio::test]
async fn a_caller_is_told_though_pull_sources_wait() {
    let limits = Limits { max_bytes: 1, ..Limits::default() };
    let (observation, outcome) = post(&event("DeleteThing", "Management"), "0:4");
    let observations = (0..3 * GROUP_MAX).map(|at| unparsed(SourceName::File, at)).chain([observation]).collect();
    piped(limits, observations).await;
    assert_eq!(outcome.await.unwrap(), Outcome::Unavailable { retry_after_s: RETRY_AFTER_S });
}

#[tokio::test]
async fn a_pull_source_that_waits_for_room_sees_the_stop_and_the_next_start_reads_on_where_it_stood() {
    let limits = Limits { max_bytes: 1, ..Limits::default() };
    let piped = Piped::start(limits.clone());
    let (intake, stop) = (piped.intake.clone(), piped.stop.clone());
    let (waits, is_waiting) = oneshot::channel();
    // More than finds place anywhere: as a file's reader does, it hands on until it is told to end.
    let source = tokio::task::spawn_blocking(move || {
        let mut waits = Some(waits);
        for group in 0.. {
            if stop.is_cancelled() {
                return;
            }
            if group == 5 {
                waits.take().into_iter().for_each(|waits| waits.send(()).unwrap());
            }
            let group = (0..GROUP_MAX).map(|at| unparsed(SourceName::File, group * GROUP_MAX + at)).collect();
            intake.send_blocking(group).unwrap();
        }
    });
    is_waiting.await.unwrap();
    piped.stop.cancel();
    source.await.unwrap();
    let (records, dir) = piped.end().await;
    assert!(!records.iter().any(|record| record.contains("UnparsedObservation")), "there was no room");

    let (buffer, task, shelf) = open(dir.path(), limits);
    assert_eq!(buffer.cursors(SourceName::File).unwrap(), [], "what was left is read again");
    buffer.close().unwrap();
    assert_eq!(gaps(&sealed(&shelf), GapCause::UncleanRestart), 0, "the stop was orderly");
    drop((buffer, shelf));
    task.end().unwrap();
}

/// A pull source's observation: nobody stands behind it.
fn read(text: &str, position: &str) -> Observation {
    Observation { answer: None, ..post(text, position).0 }
}

#[tokio::test]
async fn beyond_max_age_callers_are_sent_away_and_pull_sources_wait_until_a_receipt_comes() {
    let limits = Limits { max_age: Some(Duration::from_millis(1)), min_free_bytes: 0, ..Limits::default() };
    let Piped { dir: _dir, buffer, task, shelf, pipeline, intake, stop: _stop } = Piped::start(limits);

    let (first, outcome) = post(&event("DeleteFirst", "Management"), "0:1");
    intake.clone().prompt().send(vec![first]).await.unwrap();
    assert!(matches!(outcome.await.unwrap(), Outcome::Committed { .. }));
    // The age is looked at every other second.
    let (mut tries, until) = (2, std::time::Instant::now() + Duration::from_secs(60));
    loop {
        assert!(std::time::Instant::now() < until, "nobody is sent away");
        let (more, outcome) = post(&event("DeleteMore", "Management"), &format!("0:{tries}"));
        intake.clone().prompt().send(vec![more]).await.unwrap();
        match outcome.await.unwrap() {
            Outcome::Unavailable { retry_after_s } => break assert_eq!(retry_after_s, RETRY_AFTER_S),
            _ => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    intake.send(vec![read(&event("DeleteWaiting", "Management"), "0:w")]).await.unwrap();
    // A caller behind it is sent away still.
    let (last, outcome) = post(&event("DeleteLast", "Management"), "0:l");
    intake.clone().prompt().send(vec![last]).await.unwrap();
    assert!(matches!(outcome.await.unwrap(), Outcome::Unavailable { .. }));

    // Receipts for all that is sealed, until there is room and what waited is sealed too.
    let signer = edgetrail_proto::chain::ReceiptSigner::from_seed(&[9; 32]);
    let shelf = tokio::task::spawn_blocking(move || {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        let mut seen = Vec::new();
        while !seen.iter().any(|record: &String| record.contains("DeleteWaiting")) {
            assert!(std::time::Instant::now() < until, "it waits for ever: {seen:?}");
            seen = sealed(&shelf);
            for held in shelf.held().unwrap() {
                if let Some(&(k, head)) = held.unreceipted.last() {
                    shelf.store_receipt(&signer.sign(held.stream, k, head, k, 5)).unwrap();
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        shelf
    })
    .await
    .unwrap();
    drop(intake);
    tokio::task::spawn_blocking(move || {
        pipeline.join().unwrap();
        buffer.close().unwrap();
        drop((buffer, shelf));
        task.end().unwrap();
    })
    .await
    .unwrap();
}
