//! Files that leave their path: renamed, copied, deleted, written late. Time is the test's.

use std::path::PathBuf;

use super::super::followee::{KEPT_MAX, LEAVING_QUIET, UNWRITTEN_MAX};
use super::*;

/// A folder with a follower of `app.log`, its time, and what it told.
struct Logs {
    dir: tempfile::TempDir,
    follower: Follower,
    now: Instant,
    cursors: HashMap<String, Vec<u8>>,
}

impl Logs {
    fn new(pattern: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        append(&dir.path().join("app.log"), "1\n");
        let follower = follower(&dir.path().join(pattern), HashMap::new());
        Self { dir, follower, now: Instant::now(), cursors: HashMap::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    /// What a look and a reading give: lines as they are, what else is told by its kind.
    fn look(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.follower.scan(&mut out);
        for followed in self.follower.followed.values_mut() {
            while followed.read(self.now, &mut out) {}
        }
        self.follower.followed.retain(|_, followed| !followed.is_over());
        for cursor in out.iter().filter_map(|observation| observation.cursor.clone()) {
            self.cursors.insert(cursor.key, cursor.value);
        }
        out.into_iter().filter_map(told).collect()
    }

    /// Time passes with nothing written, and is noticed.
    fn quiet(&mut self, duration: Duration) -> Vec<String> {
        self.now += duration;
        self.look()
    }

    fn restart(&mut self, pattern: &str) {
        self.follower = follower(&self.at(pattern), self.cursors.clone());
    }

    /// Sets back when a file was last written.
    fn age(&self, name: &str) {
        let before = SystemTime::now() - UNWRITTEN_MAX - Duration::from_secs(60);
        OpenOptions::new().append(true).open(self.at(name)).unwrap().set_modified(before).unwrap();
    }
}

fn follower(pattern: &Path, cursors: HashMap<String, Vec<u8>>) -> Follower {
    let paths = vec![pattern.to_str().unwrap().to_owned()];
    let config = Config { paths, format: None, mapping: None, start: Start::Beginning, access: AccessShape::default() };
    let cursors = cursors.into_iter().map(|(key, value)| Cursor { key, value }).collect();
    let source = FileSource::new(vec![config], cursors).unwrap();
    Follower::new(source, Watch::new().unwrap().0)
}

fn told(observation: Observation) -> Option<String> {
    match observation.payload {
        Payload::Line(line) => Some(String::from_utf8(line.bytes.to_vec()).unwrap()),
        Payload::Loss(loss) => Some(format!("LOSS {}: {}", loss.cause, loss.evidence)),
        Payload::Unparsed(unparsed) => Some(format!("UNPARSED {}", String::from_utf8_lossy(&unparsed.bytes))),
        _ => None,
    }
}

#[test]
fn a_file_that_is_renamed_away_and_back_is_read_once() {
    let mut logs = Logs::new("app.log");
    assert_eq!(logs.look(), ["1"]);
    logs.rename("app.log", "app.log.1");
    append(&logs.at("app.log"), "new\n");
    assert_eq!(logs.look(), ["new"]);
    logs.rename("app.log.1", "app.log");
    assert!(logs.look().is_empty());
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    assert!(logs.look().is_empty());
    append(&logs.at("app.log"), "2\n");
    assert_eq!(logs.look(), ["2"]);
    // And if it comes back when it had been let go already.
    logs.rename("app.log", "app.log.1");
    logs.age("app.log.1");
    append(&logs.at("app.log"), "new\n");
    assert_eq!(logs.look(), ["new"]);
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    logs.rename("app.log.1", "app.log");
    assert!(logs.look().is_empty());
    append(&logs.at("app.log"), "3\n");
    assert_eq!(logs.look(), ["3"]);
}

#[test]
fn a_rotated_copy_that_the_wildcard_names_too_is_read_once() {
    let mut logs = Logs::new("app.log*");
    assert_eq!(logs.look(), ["1"]);
    for turn in 0..3 {
        append(&logs.at("app.log"), &format!("before {turn}\n"));
        for older in (1..4).rev() {
            if logs.at(&format!("app.log.{older}")).exists() {
                logs.rename(&format!("app.log.{older}"), &format!("app.log.{}", older + 1));
            }
        }
        logs.rename("app.log", "app.log.1");
        append(&logs.at("app.log.1"), &format!("late {turn}\n"));
        append(&logs.at("app.log"), &format!("after {turn}\n"));
        let mut texts = logs.look();
        texts.sort();
        assert_eq!(texts, [format!("after {turn}"), format!("before {turn}"), format!("late {turn}")]);
        assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
        // Nor does a restart.
        logs.restart("app.log*");
        assert!(logs.look().is_empty());
    }
    // What was let go is known by its cursor, whatever its name is by then.
    (1..4).for_each(|number| logs.age(&format!("app.log.{number}")));
    logs.look();
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    logs.restart("app.log*");
    assert!(logs.look().is_empty());
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
}

#[test]
fn a_rotated_copy_that_sorts_before_its_log_is_read_once() {
    let mut logs = Logs::new("app*log*");
    assert_eq!(logs.look(), ["1"]);
    logs.restart("app*log*");
    logs.rename("app.log", "app-1.log");
    append(&logs.at("app.log"), "2\n");
    assert_eq!(logs.look(), ["2"]);
}

#[test]
fn a_file_that_came_and_went_while_the_agent_was_down_is_read_though_the_wildcard_names_it() {
    let mut logs = Logs::new("app.log*");
    assert_eq!(logs.look(), ["1"]);
    logs.rename("app.log", "app.log.2");
    append(&logs.at("app.log.1"), "2\n");
    append(&logs.at("app.log"), "3\n");
    logs.restart("app.log*");
    logs.follower.sections[0].config.start = Start::End;
    assert_eq!(logs.look(), ["2", "3"]);
}

#[test]
fn a_copy_that_was_made_before_truncation_is_not_read_again_but_for_what_is_new_in_it() {
    let mut logs = Logs::new("app.log*");
    append(&logs.at("app.log"), "2\n");
    assert_eq!(logs.look(), ["1", "2"]);
    // Written, copied and cut before the agent looks.
    append(&logs.at("app.log"), "3\n");
    fs::copy(logs.at("app.log"), logs.at("app.log.1")).unwrap();
    fs::write(logs.at("app.log"), "4\n").unwrap();
    let texts = logs.look();
    let lines: Vec<&String> = texts.iter().filter(|text| !text.starts_with("LOSS")).collect();
    assert_eq!(lines, ["4", "3"]);
    assert!(texts.iter().any(|text| text.contains("truncated after byte 4")), "{texts:?}");
    // The other order: the copy is seen while it is made, and the truncation later.
    fs::write(logs.at("app.log.2"), "").unwrap();
    assert!(logs.look().is_empty());
    fs::copy(logs.at("app.log"), logs.at("app.log.2")).unwrap();
    assert!(logs.look().is_empty());
    OpenOptions::new().write(true).open(logs.at("app.log")).unwrap().set_len(0).unwrap();
    let texts = logs.look();
    assert!(texts.len() == 1 && texts[0].starts_with("LOSS"), "{texts:?}");
    append(&logs.at("app.log"), "5\n");
    assert_eq!(logs.look(), ["5"]);
}

#[test]
fn another_file_of_the_wildcard_that_begins_differently_is_read_whole() {
    let mut logs = Logs::new("app.log*");
    append(&logs.at("app.log"), "2\n");
    assert_eq!(logs.look(), ["1", "2"]);
    append(&logs.at("app.log.worker"), "1\nown\n");
    assert_eq!(logs.look(), ["1", "own"]);
}

#[test]
fn compressed_copies_are_no_logs_of_a_wildcard() {
    let mut logs = Logs::new("app.log*");
    append(&logs.at("app.log.7.gz"), "\x1f packed\n");
    assert_eq!(logs.look(), ["1"]);
}

#[test]
fn a_late_writer_loses_nothing_until_its_file_is_deleted() {
    let mut logs = Logs::new("app.log");
    assert_eq!(logs.look(), ["1"]);
    logs.rename("app.log", "app.log.1");
    let mut late = OpenOptions::new().append(true).open(logs.at("app.log.1")).unwrap();
    append(&logs.at("app.log"), "2\n");
    assert_eq!(logs.look(), ["2"]);
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    late.write_all(b"late\n").unwrap();
    assert_eq!(logs.quiet(Duration::from_secs(3600)), ["late"]);
    // Over a restart, too.
    logs.restart("app.log");
    late.write_all(b"later\n").unwrap();
    assert_eq!(logs.look(), ["later"]);
    // Deleted, its writer has still a while.
    fs::remove_file(logs.at("app.log.1")).unwrap();
    assert!(logs.look().is_empty());
    late.write_all(b"last\n").unwrap();
    assert_eq!(logs.look(), ["last"]);
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    let tails: usize = logs.follower.followed.values().map(|followed| followed.tails.len()).sum();
    assert_eq!(tails, 1, "it is held no longer");
}

#[test]
fn a_file_that_was_let_go_is_taken_up_again_where_it_was_left() {
    let mut logs = Logs::new("app.log");
    assert_eq!(logs.look(), ["1"]);
    for number in 0..=KEPT_MAX {
        logs.rename("app.log", &format!("app.log.{number}"));
        append(&logs.at("app.log"), &format!("line {number}\n"));
        assert_eq!(logs.look(), [format!("line {number}")]);
        assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    }
    let tails = |logs: &Logs| logs.follower.followed.values().map(|followed| followed.tails.len()).sum::<usize>();
    assert_eq!(tails(&logs), KEPT_MAX + 1, "the oldest is let go");
    append(&logs.at("app.log.0"), "late\n");
    assert_eq!(logs.look(), ["late"]);
    logs.restart("app.log");
    assert!(logs.look().is_empty());
}

#[test]
fn a_kept_file_that_is_deleted_while_the_agent_is_down_is_no_loss() {
    let mut logs = Logs::new("app.log");
    logs.look();
    logs.rename("app.log", "app.log.1");
    append(&logs.at("app.log"), "2\n");
    logs.look();
    assert!(logs.quiet(2 * LEAVING_QUIET).is_empty());
    append(&logs.at("app.log"), "3\n");
    assert_eq!(logs.look(), ["3"]);
    fs::remove_file(logs.at("app.log.1")).unwrap();
    logs.restart("app.log");
    assert!(logs.look().is_empty());
}

#[test]
fn a_line_without_its_end_in_a_rotated_file_is_told_as_what_it_is() {
    let mut logs = Logs::new("app.log");
    append(&logs.at("app.log"), "{\"whole\":1}");
    assert_eq!(logs.look(), ["1"]);
    logs.rename("app.log", "app.log.1");
    append(&logs.at("app.log"), "2\nuser=ali");
    assert_eq!(logs.look(), ["2"]);
    assert_eq!(logs.quiet(2 * LEAVING_QUIET), ["{\"whole\":1}"], "JSON says itself that it is whole");
    logs.rename("app.log", "app.log.2");
    append(&logs.at("app.log"), "3\n");
    assert_eq!(logs.look(), ["3"]);
    assert_eq!(logs.quiet(2 * LEAVING_QUIET), ["UNPARSED user=ali"]);
    logs.restart("app.log");
    append(&logs.at("app.log.1"), "\nmore\n");
    append(&logs.at("app.log.2"), "ce\n4\n");
    assert_eq!(logs.look(), ["more", "UNPARSED ce", "4"]);
}
