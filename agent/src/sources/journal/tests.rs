//! The source over a real journald, run by hand in a mount namespace of its own: nothing of the machine is touched.
//!
//! Needs root and systemd-journald; skipped only by EDGETRAIL_SKIP_JOURNALD=1, and loudly.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::observation::{self, Outlet};

/// Whether the tests of a real journal are to be skipped.
fn is_skipped() -> bool {
    let skip = std::env::var_os("EDGETRAIL_SKIP_JOURNALD").is_some_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED: EDGETRAIL_SKIP_JOURNALD=1, the journal source is not tested against a real journal");
    }
    skip
}

/// Adds a journal file with these messages of sudo, made by systemd's own writer. `first_us` is the first one's time.
fn write_journal(directory: &Path, name: &str, first_us: u64, messages: &[&str]) {
    let machine = directory.join("0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(&machine).unwrap();
    let mut export = String::new();
    for (index, message) in messages.iter().enumerate() {
        let time = first_us + index as u64;
        write!(export, "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={time}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n")
            .unwrap();
        write!(export, "SYSLOG_IDENTIFIER=sudo\n_UID=0\nMESSAGE={message}\n\n").unwrap();
        write!(export, "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={time}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n")
            .unwrap();
        write!(export, "SYSLOG_IDENTIFIER=noise\nMESSAGE=nobody wants this\n\n").unwrap();
    }
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote")
        .arg("-o")
        .arg(machine.join(name))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("install systemd-journal-remote, or set EDGETRAIL_SKIP_JOURNALD=1");
    remote.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
    assert!(remote.wait().unwrap().success());
}

struct Run {
    outlet: Outlet,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
fn run(directory: &Path, cursor: Option<&Cursor>) -> Run {
    let config = Config { enabled: true, directories: vec![directory.to_owned()] };
    let source = JournalSource::new(config, cursor.cloned()).unwrap();
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(intake, stop.clone()));
    Run { outlet, stop, task }
}

impl Run {
    /// The next `count` observations as text, and the last one's cursor.
    async fn next(&mut self, count: usize) -> (Vec<String>, Option<Cursor>) {
        let (mut texts, mut cursor) = (Vec::new(), None);
        while texts.len() < count {
            let group = tokio::time::timeout(Duration::from_secs(20), self.outlet.recv()).await;
            for observation in group.unwrap_or_else(|_| panic!("only {texts:?}")).unwrap() {
                texts.push(match &observation.payload {
                    Payload::Journal(entry) => entry.text("MESSAGE").unwrap().into_owned(),
                    Payload::Loss(loss) => format!("LOSS {}", loss.evidence),
                    Payload::Nothing => "start".to_owned(),
                    _ => panic!("unexpected"),
                });
                cursor = observation.cursor;
                if texts.len() == count {
                    break;
                }
            }
        }
        (texts, cursor)
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.outlet.close();
        while self.outlet.recv().await.is_some() {}
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn reading_starts_at_the_present_and_goes_on_from_any_entry() {
    if is_skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path(), "a.journal", 1_700_000_000_000_000, &["old"]);
    let mut first = run(dir.path(), None);
    assert_eq!(first.next(1).await.0, ["start"]);
    // A new file, as after rotation, wakes the reader.
    write_journal(dir.path(), "b.journal", 1_700_000_001_000_000, &["one", "two", "three"]);
    let (texts, cursor) = first.next(2).await;
    assert_eq!(texts, ["one", "two"]);
    first.stop().await;
    let mut second = run(dir.path(), cursor.as_ref());
    assert_eq!(second.next(1).await.0, ["three"]);
    second.stop().await;
}

#[tokio::test]
async fn a_vanished_journal_is_survived_and_a_lost_cursor_reported() {
    if is_skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path(), "a.journal", 1_700_000_000_000_000, &["one", "two"]);
    let mut first = run(dir.path(), None);
    let cursor = first.next(1).await.1;
    std::fs::remove_dir_all(dir.path().join("0123456789abcdef0123456789abcdef")).unwrap();
    write_journal(dir.path(), "b.journal", 1_700_000_005_000_000, &["three"]);
    assert_eq!(first.next(1).await.0, ["three"]);
    first.stop().await;
    let mut second = run(dir.path(), cursor.as_ref());
    let (texts, _) = second.next(2).await;
    assert!(texts[0].starts_with("LOSS") && texts[0].contains("vacuumed or deleted"), "{texts:?}");
    assert_eq!(texts[1], "three");
    second.stop().await;
    let mut third = run(dir.path(), Some(&Cursor { key: CURSOR_KEY.to_owned(), value: b"junk".to_vec() }));
    let (texts, _) = third.next(2).await;
    assert!(texts[0].contains("can't be read"), "{texts:?}");
    assert_eq!(texts[1], "start");
    third.stop().await;
}

#[tokio::test]
async fn a_running_journald_is_followed() {
    if is_skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    // The namespace's /run/log/journal is bound to a directory that this process sees too.
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal \
        && mount --bind \"$1\" /run/log/journal && { SYSTEMD_LOG_TARGET=null /lib/systemd/systemd-journald & J=$!; } \
        && while ! [ -S /run/systemd/journal/dev-log ]; do read -t 0.05 -u 9 9<> <(:) ; done; \
        logger -u /run/systemd/journal/dev-log -t sudo first; read -r _; \
        logger -u /run/systemd/journal/dev-log -t sudo second; read -r _; kill $J; wait $J";
    let mut shell = Command::new("unshare")
        .args(["-m", "bash", "-c", script, "bash"])
        .arg(&journal)
        .stdin(Stdio::piped())
        .spawn()
        .expect("needs root and util-linux, or set EDGETRAIL_SKIP_JOURNALD=1");
    let mut stdin = shell.stdin.take().unwrap();
    let config = Config { enabled: true, directories: vec![journal.clone()] };
    let source = JournalSource::new(config, None).unwrap();
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
    let task = tokio::spawn(source.run(intake, stop.clone()));
    let mut run = Run { outlet, stop, task };
    let mut texts = run.next(1).await.0;
    writeln!(stdin).unwrap();
    while !texts.iter().any(|text| text == "second") {
        texts.extend(run.next(1).await.0);
    }
    writeln!(stdin).unwrap();
    assert!(shell.wait().unwrap().success());
    run.stop().await;
}

#[test]
fn without_a_journal_the_source_says_so() {
    let config = Config { enabled: true, directories: vec!["/nowhere/journal".into()] };
    let error = JournalSource::new(config, None).unwrap_err().to_string();
    assert!(error.contains("is systemd-journald running?"), "{error}");
}

#[test]
fn what_journald_suppressed_is_a_gap() {
    let entry = |transport: &str| {
        let fields = [
            ("MESSAGE_ID", std::str::from_utf8(DROPPED).unwrap()),
            ("_TRANSPORT", transport),
            ("MESSAGE", "Suppressed 123 messages from /system.slice/ssh.service"),
        ];
        Entry {
            realtime_us: 7,
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect(),
        }
    };
    let mark = Mark { cursor: String::new(), boot: String::new(), monotonic_us: 1, realtime_us: 7, ahead_us: 0 };
    let Payload::Loss(loss) = payload(&mark, entry("driver")) else { panic!() };
    assert_eq!((loss.count, loss.exact, loss.cause), (Some(123), false, GapCause::SourceOverflow));
    assert!(matches!(payload(&mark, entry("syslog")), Payload::Journal(_)), "anybody may write such a message");
}

#[tokio::test]
async fn namespaces_are_read_too() {
    if is_skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let now = now_us();
    write_journal(directory.path(), "system.journal", now, &["host"]);
    let other = directory.path().join("elsewhere");
    write_journal(&other, "system.journal", now + 10, &["namespace"]);
    let machine = "0123456789abcdef0123456789abcdef";
    std::fs::rename(other.join(machine), directory.path().join(format!("{machine}.tenant"))).unwrap();
    let files = Files { directories: vec![directory.path().to_owned()] };
    let mut files = files;
    let reading = files.read(None, now + 1_000_000, 100).unwrap();
    let texts: Vec<_> = reading.entries.iter().map(|(_, entry)| entry.text("MESSAGE").unwrap().into_owned()).collect();
    assert_eq!(texts, ["host", "namespace"]);
}

/// A message at a time of the wall's clock and of the boot's.
type Stamped<'a> = (u64, u64, &'a str);

/// Adds a journal file with these messages of sudo, as one boot wrote them.
fn write_stamped(directory: &Path, name: &str, entries: &[Stamped<'_>]) {
    let machine = directory.join("0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(&machine).unwrap();
    let mut export = String::new();
    for (realtime, monotonic, message) in entries {
        write!(export, "__REALTIME_TIMESTAMP={realtime}\n__MONOTONIC_TIMESTAMP={monotonic}\n").unwrap();
        write!(export, "_BOOT_ID=0123456789abcdef0123456789abcdef\nSYSLOG_IDENTIFIER=sudo\n_UID=0\nMESSAGE={message}\n\n")
            .unwrap();
    }
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote")
        .arg("-o")
        .arg(machine.join(name))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("install systemd-journal-remote, or set EDGETRAIL_SKIP_JOURNALD=1");
    remote.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
    assert!(remote.wait().unwrap().success());
}

/// Reads all there is from a mark on, at most `limit` at once.
fn read_from(files: &mut Files, mark: &mut Option<Mark>, now_us: u64, limit: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..100 {
        let reading = files.read(mark.as_ref(), now_us, limit).unwrap();
        texts.extend(reading.entries.iter().map(|(_, entry)| entry.text("MESSAGE").unwrap().into_owned()));
        *mark = reading.last.or(mark.take());
        if !reading.more {
            return texts;
        }
    }
    panic!("the reading makes no progress: {texts:?}");
}

#[test]
fn a_clock_that_was_set_back_repeats_nothing_and_misses_nothing() {
    if is_skipped() {
        return;
    }
    const SECOND: u64 = 1_000_000;
    for limit in [1, 2, 100] {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files { directories: vec![directory.path().to_owned()] };
        let start = 1_700_000_000 * SECOND;
        // Half an hour, all of it read but the last.
        write_stamped(
            directory.path(),
            "a.journal",
            &[(start, SECOND, "a"), (start + 1780 * SECOND, 1781 * SECOND, "b"), (start + 1800 * SECOND, 1801 * SECOND, "c")],
        );
        let mut mark = None;
        assert_eq!(read_from(&mut files, &mut mark, start + 1801 * SECOND, limit), ["a", "b", "c"]);
        write_stamped(directory.path(), "b.journal", &[(start + 1802 * SECOND, 1803 * SECOND, "d")]);
        // A quarter of an hour back: systemd rotates.
        let back = start + 900 * SECOND;
        write_stamped(directory.path(), "c.journal", &[(back, 1804 * SECOND, "e"), (back + SECOND, 1805 * SECOND, "f")]);
        assert_eq!(read_from(&mut files, &mut mark, back + 2 * SECOND, limit), ["d", "e", "f"], "limit {limit}");
        for later in [2, 3, 60] {
            assert!(read_from(&mut files, &mut mark, back + later * SECOND, limit).is_empty(), "limit {limit}, {later} s later");
        }
        write_stamped(directory.path(), "d.journal", &[(back + 61 * SECOND, 1865 * SECOND, "g")]);
        assert_eq!(read_from(&mut files, &mut mark, back + 62 * SECOND, limit), ["g"], "limit {limit}");
        // The clock catches up.
        write_stamped(directory.path(), "e.journal", &[(start + 1900 * SECOND, 2804 * SECOND, "h")]);
        assert_eq!(read_from(&mut files, &mut mark, start + 1901 * SECOND, limit), ["h"], "limit {limit}");
        assert!(read_from(&mut files, &mut mark, start + 1902 * SECOND, limit).is_empty());
    }
}

#[test]
fn entries_are_chosen_by_their_program_or_by_pam_s_words() {
    let is_read = |program: &str, message: &str| {
        wanted::is_wanted(|field| match field {
            "SYSLOG_IDENTIFIER" => Some(program.as_bytes()),
            "MESSAGE" => Some(message.as_bytes()),
            _ => None,
        })
    };
    let pam = "pam_unix(gdm-password:session): session opened for user alice(uid=1000) by (uid=0)";
    for program in ["gdm-password]", "lightdm", "sddm-helper", "xrdp-sesman", "cockpit-session", "vsftpd"] {
        assert!(is_read(program, pam), "{program}");
    }
    assert!(is_read("CROND", "(root) CMD (true)") && is_read("vsftpd", "[bob] OK LOGIN: Client \"192.0.2.1\""));
    for message in ["pam_unix is fine", "pam_unix(x", "hello pam_unix(x:session): y", "pam(x:y): z", ""] {
        assert!(!is_read("nginx", message), "{message}");
    }
}
