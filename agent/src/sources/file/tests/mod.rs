//! The source over real files, with the test as its pipeline.

mod rotation;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::observation::{self, Outlet, Payload};

/// A run of the source; what it sends is committed by [`Run::committed`].
struct Run {
    outlet: Outlet,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
}

/// What a test remembers between runs: the buffer.
#[derive(Default)]
struct Buffer(BTreeMap<String, Vec<u8>>);

impl Buffer {
    #[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
    fn run(&self, pattern: &Path, start: Start) -> Run {
        let paths = vec![pattern.to_str().unwrap().to_owned()];
        let config = Config { paths, format: None, mapping: None, start, access: AccessShape::default() };
        let cursors = self.0.iter().map(|(key, value)| Cursor { key: key.clone(), value: value.clone() }).collect();
        let source = FileSource::new(vec![config], cursors).unwrap();
        let (intake, outlet) = observation::intake();
        let stop = CancellationToken::new();
        let task = tokio::spawn(source.run(intake, stop.clone()));
        Run { outlet, stop, task }
    }
}

impl Run {
    /// Commits observation by observation until `count` lines and losses came; gives their texts.
    async fn committed(&mut self, buffer: &mut Buffer, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let group = tokio::time::timeout(Duration::from_secs(20), self.outlet.recv()).await;
            for observation in group.unwrap_or_else(|_| panic!("only {texts:?}")).unwrap() {
                match observation.payload {
                    Payload::Line(line) => texts.push(String::from_utf8(line.bytes.to_vec()).unwrap()),
                    Payload::Loss(loss) => texts.push(format!("LOSS {}: {}", loss.cause, loss.evidence)),
                    Payload::Unparsed(unparsed) => texts.push(format!("UNPARSED {}", unparsed.reason)),
                    _ => {}
                }
                if let Some(cursor) = observation.cursor {
                    buffer.0.insert(cursor.key, cursor.value);
                }
                if texts.len() == count {
                    // What was not committed is read again.
                    break;
                }
            }
        }
        texts
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.outlet.close();
        while self.outlet.recv().await.is_some() {}
        self.task.await.unwrap().unwrap();
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn lines_are_followed_and_a_restart_goes_on_at_any_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n2\n3\n4");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 2).await, ["1", "2"]);
    run.stop().await;
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["3"]);
    append(&path, "4\n5\n");
    assert_eq!(run.committed(&mut buffer, 2).await, ["44", "5"]);
    run.stop().await;
}

#[tokio::test]
async fn a_first_start_at_the_end_takes_what_is_written_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "old\nunfin");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::End);
    while buffer.0.is_empty() {
        let group = run.outlet.recv().await.unwrap();
        buffer.0.extend(group.into_iter().filter_map(|observation| observation.cursor).map(|cursor| (cursor.key, cursor.value)));
    }
    run.stop().await;
    append(&path, "ished\nnew\n");
    let mut run = buffer.run(&path, Start::End);
    assert_eq!(run.committed(&mut buffer, 2).await, ["unfinished", "new"]);
    run.stop().await;
}

#[tokio::test]
async fn rotation_while_running_loses_nothing_even_of_a_late_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    let rotated = dir.path().join("app.json.1");
    fs::rename(&path, &rotated).unwrap();
    append(&path, "3\n");
    assert_eq!(run.committed(&mut buffer, 1).await, ["3"]);
    append(&rotated, "2\n");
    assert_eq!(run.committed(&mut buffer, 1).await, ["2"]);
    run.stop().await;
    // Both places were kept.
    append(&rotated, "2b\n");
    append(&path, "4\n");
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 2).await, ["2b", "4"]);
    run.stop().await;
}

#[tokio::test]
async fn rotations_while_stopped_are_caught_up_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n2\n");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    run.stop().await;
    fs::rename(&path, dir.path().join("app.json.2")).unwrap();
    append(&dir.path().join("app.json.1"), "3\n");
    append(&path, "4\n");
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 3).await, ["2", "3", "4"]);
    run.stop().await;
}

#[tokio::test]
async fn truncation_and_a_vanished_file_are_losses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    fs::write(&path, "another beginning\n").unwrap();
    let texts = run.committed(&mut buffer, 2).await;
    assert!(texts[0].starts_with("LOSS") && texts[0].contains("truncated after byte 2"), "{texts:?}");
    assert_eq!(texts[1], "another beginning");
    run.stop().await;
    fs::remove_file(&path).unwrap();
    append(&path, "afresh\n");
    let mut run = buffer.run(&path, Start::Beginning);
    let texts = run.committed(&mut buffer, 2).await;
    assert!(texts[0].starts_with("LOSS") && texts[0].contains("gone or rewritten"), "{texts:?}");
    assert_eq!(texts[1], "afresh");
    run.stop().await;
}

#[tokio::test]
async fn new_files_of_a_pattern_are_read_from_their_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = Buffer::default();
    fs::create_dir(dir.path().join("old")).unwrap();
    append(&dir.path().join("old/app-0.json"), "0\n");
    let mut run = buffer.run(&dir.path().join("*/app-*.json"), Start::End);
    // The old file's end was taken up.
    run.outlet.recv().await.unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    append(&dir.path().join("x/app-1.json"), "1\n");
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    append(&dir.path().join("x/app-2.json"), "2\n");
    assert_eq!(run.committed(&mut buffer, 1).await, ["2"]);
    run.stop().await;
}

#[tokio::test]
async fn positions_are_the_same_at_every_reading_and_differ_between_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n2\n");
    let mut buffer = Buffer::default();
    let mut positions = Vec::new();
    for _ in 0..2 {
        let mut run = buffer.run(&path, Start::Beginning);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            for observation in run.outlet.recv().await.unwrap() {
                match observation.payload {
                    Payload::Line(_) => seen.push(observation.position),
                    // Only the start is committed.
                    _ => drop(observation.cursor.map(|cursor| buffer.0.insert(cursor.key, cursor.value))),
                }
            }
        }
        run.stop().await;
        positions.push(seen);
    }
    assert_eq!(positions[0], positions[1]);
    assert_ne!(positions[0][0], positions[0][1]);
}

#[test]
fn what_cannot_be_followed_says_what_to_do() {
    let paths = |path: &str| vec![path.to_owned()];
    let config = |path: &str| Config {
        paths: paths(path),
        format: None,
        mapping: None,
        start: Start::End,
        access: AccessShape::default(),
    };
    assert!(FileSource::new(vec![], vec![]).unwrap_err().to_string().contains("add [[sources.file]]"));
    assert!(FileSource::new(vec![config("app.json")], vec![]).unwrap_err().to_string().contains("not absolute"));
}

#[tokio::test]
async fn files_beyond_the_most_that_are_followed_are_a_gap_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..FILES_MAX + 3 {
        append(&dir.path().join(format!("app-{number:02}.json")), "1\n");
    }
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&dir.path().join("app-*.json"), Start::Beginning);
    let texts = run.committed(&mut buffer, FILES_MAX + 1).await;
    let gaps: Vec<_> = texts.iter().filter(|text| text.starts_with("LOSS source-overflow")).collect();
    assert!(gaps.len() == 1 && gaps[0].contains("/app-"), "{texts:?}");
    run.stop().await;
}

#[test]
fn a_file_that_is_rotated_faster_than_it_is_read_is_a_gap_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "0\n");
    let mut out = Vec::new();
    let mut followed = Followed::new(path.clone(), Format::Events, Start::Beginning);
    followed.look(&|_, _| false, &mut out);
    for number in 0..20 {
        fs::rename(&path, dir.path().join(format!("app.json.{number}"))).unwrap();
        append(&path, &format!("{number}\n"));
        followed.look(&|_, _| false, &mut out);
    }
    let lost =
        |observation: &Observation| matches!(&observation.payload, Payload::Loss(loss) if loss.cause == GapCause::SourceOverflow);
    assert!(out.iter().any(lost), "{out:?}");
}

/// All lines that a path has now, as they come; and what else it tells.
fn drained(followed: &mut Followed, mut out: Vec<Observation>) -> Vec<String> {
    while followed.read(Instant::now(), &mut out) {}
    let text = |observation: Observation| match observation.payload {
        Payload::Line(line) => Some(String::from_utf8(line.bytes.to_vec()).unwrap()),
        Payload::Loss(loss) => Some(format!("LOSS {}", loss.evidence)),
        _ => None,
    };
    out.into_iter().filter_map(text).collect()
}

#[test]
fn a_file_that_came_and_went_between_two_looks_is_read_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    let beside = |name: &str| dir.path().join(name);
    append(&beside("app.json.9"), "of before\n");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    OpenOptions::new().append(true).open(beside("app.json.9")).unwrap().set_modified(hour_ago).unwrap();
    append(&path, "1\n");
    let (mut out, named) = (Vec::new(), BTreeSet::from([beside("app-9.json")]));
    let is_named = |path: &Path, _: &Metadata| named.contains(path);
    let mut followed = Followed::new(path.clone(), Format::Events, Start::Beginning);
    followed.look(&is_named, &mut out);
    assert_eq!(drained(&mut followed, out), ["1"]);
    append(&path, "2\n");
    fs::rename(&path, beside("app.json.2")).unwrap();
    append(&path, "3\n4");
    fs::rename(&path, beside("app.json.1")).unwrap();
    append(&path, "5\n");
    // Another log, one that is followed by itself, and what a rotation has packed of what was read.
    append(&beside("app_errors.json"), "another's\n");
    append(&beside("app-9.json"), "its own\n");
    append(&beside("app.json.2.gz"), "packed\n");
    let mut out = Vec::new();
    followed.look(&is_named, &mut out);
    assert_eq!(drained(&mut followed, out), ["2", "3", "5"]);
    // Once more: nothing is read twice, and what was packed unread is said.
    fs::rename(beside("app.json.1"), beside("app.json.3")).unwrap();
    fs::rename(&path, beside("app.json.2")).unwrap();
    append(&beside("app.json.1.gz"), "packed unread\n");
    append(&path, "6\n");
    let mut out = Vec::new();
    followed.look(&is_named, &mut out);
    let texts = drained(&mut followed, out);
    assert!(texts.len() == 2 && texts[0].contains("app.json.1.gz was compressed before") && texts[1] == "6", "{texts:?}");
}

/// As the kubelet names the logs of containers: the link stays, its file is rotated where it lies.
#[tokio::test]
async fn a_file_behind_a_link_is_followed_across_its_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (links, logs) = (dir.path().join("links"), dir.path().join("logs"));
    fs::create_dir(&links).unwrap();
    fs::create_dir(&logs).unwrap();
    let (link, log) = (links.join("app.json"), logs.join("0.log"));
    append(&log, "1\n");
    std::os::unix::fs::symlink(&log, &link).unwrap();
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&links.join("*.json"), Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    fs::rename(&log, logs.join("0.log.20260101")).unwrap();
    append(&log, "2\n");
    assert_eq!(run.committed(&mut buffer, 1).await, ["2"]);
    run.stop().await;
    // And where it was rotated while nobody looked.
    append(&log, "3\n");
    fs::rename(&log, logs.join("0.log.20260102")).unwrap();
    append(&log, "4\n");
    let mut run = buffer.run(&links.join("*.json"), Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 2).await, ["3", "4"]);
    run.stop().await;
}

#[tokio::test]
async fn the_unended_last_line_of_a_rotated_file_is_given_when_its_writer_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.json");
    append(&path, "1\n{\"unended\":1}");
    let mut buffer = Buffer::default();
    let mut run = buffer.run(&path, Start::Beginning);
    assert_eq!(run.committed(&mut buffer, 1).await, ["1"]);
    fs::rename(&path, dir.path().join("app.json.1")).unwrap();
    append(&path, "2\n");
    assert_eq!(run.committed(&mut buffer, 2).await, ["2", "{\"unended\":1}"]);
    run.stop().await;
}
