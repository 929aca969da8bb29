//! audit.log, followed across rotation.
//!
//! auditd renames the full log to `audit.log.1` and that to `.2`: the follower reads the file it has open to its end, then
//! goes on with the next younger one. Its cursor is device and inode, generation and the offset behind the last line of
//! which the records are all committed or kept in the cursor. A file that became shorter begins anew (+1 generation). A
//! cursor whose file is gone is a gap without a bound, and reading goes on with the oldest file there is.
//!
//! A line is read as soon as auditd wrote it, for the journal waits half a second for the kernel's report of the same act;
//! where changes of the folder can't be watched, each [`POLL_INTERVAL`].

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::assembler::{Assembler, Event, Origin};
use super::cursor::{HalfJoined, LogPlace, half_joined};
use super::own::Own;
use super::record::{RecordError, Stamped};
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Stopped, Unparsed};
use crate::sources::SourceError;
use crate::sources::watch::Watch;

/// How often a quiet log is looked at, should a change of it be overlooked.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that are written within so long are read together.
const GATHER: Duration = Duration::from_millis(20);

/// How long what was just read is left alone where it was Edgetrail's own doing: to read it may have written more.
const OWN_PAUSE: Duration = Duration::from_millis(200);

/// Longest line that is read as one, bytes: kernel records are at most 8,970, enriched ones some more.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Rotated files looked at for the cursor's. Source: auditd.conf's `num_logs`, at most 999; 99 before auditd 2.
const ROTATED_MAX: u32 = 999;

/// Key of a log's cursor.
pub fn key(path: &Path) -> String {
    format!("audit/log:{}", path.display())
}

/// Follows the log at `path` until told to stop. `start` is the cursor of [`key`], if there is one; without, reading
/// begins at the log's present end.
pub async fn run(path: PathBuf, start: Option<Cursor>, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
    follow(path, start, intake, stop, POLL_INTERVAL).await
}

async fn follow(
    path: PathBuf,
    start: Option<Cursor>,
    intake: Intake,
    stop: CancellationToken,
    poll: Duration,
) -> Result<(), SourceError> {
    let (watch, waker) = Watch::new().map_err(|error| failed("setting up inotify", error))?;
    watch_folder(&watch, &path);
    let mut follower = Follower::open(path, start).map_err(|error| failed("opening audit.log", error))?;
    let followed = move |stop: &CancellationToken| follower.follow(watch, &intake, stop, poll);
    waker.run(&stop, followed).await.map_err(|error| failed("reading audit.log", error))?
}

/// The folder that the log is in, wherever a link to it stands: auditd renames within it.
fn watch_folder(watch: &Watch, path: &Path) {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Err(error) = watch.tree(path.parent().unwrap_or(Path::new("/"))) {
        tracing::warn!(%error, path = %path.display(), "the folder of audit.log can't be watched: it is looked at each second");
    }
}

fn failed(doing: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
    SourceError::Failed { source_name: SourceName::Audit, doing: doing.to_owned(), cause: cause.into() }
}

/// All lines of a log as observations, without a cursor: for `parse`.
pub fn parse(log: impl BufRead, mut each: impl FnMut(Observation)) -> std::io::Result<()> {
    let (mut lines, mut assembler, mut number) = (Lines { reader: log, whole: 0 }, Assembler::new(Origin::Log), 0u64);
    while let Some(line) = lines.next(true)? {
        number += 1;
        let mut events = Vec::new();
        match Stamped::from_line(&line) {
            Ok(stamped) => assembler.push(stamped, 0, &mut events),
            Err(_) if line.is_empty() => {}
            Err(reason) => each(unparsed(format!("line/{number}"), line, reason)),
        }
        events.into_iter().for_each(|event| each(of_event(event)));
    }
    let mut events = Vec::new();
    assembler.expire(u64::MAX, &mut events);
    events.into_iter().for_each(|event| each(of_event(event)));
    Ok(())
}

/// Lines with their lengths, the last only once it is ended.
struct Lines<R> {
    reader: R,
    /// Bytes of lines given out so far.
    whole: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; an unended one only with `last`. A longer one than [`LINE_BYTES_MAX`] comes in pieces.
    fn next(&mut self, last: bool) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let length = std::io::Read::take(&mut self.reader, limit).read_until(b'\n', &mut line)?;
        let is_whole = line.last() == Some(&b'\n') || length >= LINE_BYTES_MAX;
        if length == 0 || (!is_whole && !last) {
            return Ok(None);
        }
        self.whole = self.whole.saturating_add(u64::try_from(length).unwrap_or(0));
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }
}

struct Follower {
    path: PathBuf,
    assembler: Assembler,
    file: Option<File>,
    place: LogPlace,
    /// Events and losses that wait for the next group.
    waiting: Vec<Observation>,
    own: Own,
    /// Whether the last group left out what Edgetrail did itself.
    is_own: bool,
    since: Instant,
}

impl Follower {
    fn open(path: PathBuf, start: Option<Cursor>) -> std::io::Result<Self> {
        let place = LogPlace { device: 0, inode: 0, generation: 0, offset: 0, half_joined: Vec::new() };
        let (assembler, waiting, own) = (Assembler::new(Origin::Log), Vec::new(), Own::new());
        let mut follower = Self { path, assembler, file: None, place, waiting, own, is_own: false, since: Instant::now() };
        match start.and_then(|cursor| serde_json::from_slice::<LogPlace>(&cursor.value).ok()) {
            Some(place) => follower.resume(place)?,
            None => follower.begin_at_end()?,
        }
        Ok(follower)
    }

    /// Groups to the pipeline until told to stop or nobody takes them.
    fn follow(&mut self, mut watch: Watch, intake: &Intake, stop: &CancellationToken, poll: Duration) -> Result<(), SourceError> {
        let failed = |error| failed("reading audit.log", error);
        while !stop.is_cancelled() {
            let group = self.read().map_err(failed)?;
            if !group.is_empty() {
                if intake.send_blocking(group) == Err(Stopped) {
                    return Ok(());
                }
                continue;
            }
            let pause = if std::mem::take(&mut self.is_own) { OWN_PAUSE } else { GATHER };
            let joined = self.assembler.deadline().map(|due| Duration::from_millis(due.saturating_sub(self.now()).max(1)));
            let changes = watch.wait(Some(joined.unwrap_or(poll).min(poll))).map_err(failed)?;
            if !changes.is_empty() && !stop.is_cancelled() {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// Events as observations, without what Edgetrail itself did.
    fn observed(&mut self, events: Vec<Event>) -> Vec<Observation> {
        let before = events.len();
        let others: Vec<Observation> = events.into_iter().filter(|event| !self.own.did(event)).map(of_event).collect();
        self.is_own |= others.len() < before;
        others
    }

    fn begin_at_end(&mut self) -> std::io::Result<()> {
        if self.take_up(&self.path.clone(), 0)? {
            self.place.offset = self.file.as_ref().map_or(Ok(0), |file| file.metadata().map(|file| file.len()))?;
        }
        Ok(())
    }

    fn resume(&mut self, place: LogPlace) -> std::io::Result<()> {
        let mut events = Vec::new();
        for stamped in place.half_joined.iter().filter_map(HalfJoined::restore) {
            self.assembler.push(stamped, 0, &mut events);
        }
        let waiting = self.observed(events);
        self.waiting.extend(waiting);
        let candidates = std::iter::once(self.path.clone()).chain(rotated(&self.path));
        let found = candidates
            .into_iter()
            .find(|path| path.metadata().is_ok_and(|file| (file.dev(), file.ino()) == (place.device, place.inode)));
        if let Some(found) = found {
            self.take_up(&found, place.generation)?;
            self.place.offset = place.offset;
            return Ok(());
        }
        self.waiting.push(lost("the file that the cursor names is gone: it was rotated away or removed"));
        let oldest = rotated(&self.path).last().unwrap_or_else(|| self.path.clone());
        self.take_up(&oldest, 0)?;
        Ok(())
    }

    /// Opens a file from its start; false where there is none yet.
    fn take_up(&mut self, path: &Path, generation: u64) -> std::io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        self.place = LogPlace { device: metadata.dev(), inode: metadata.ino(), generation, offset: 0, half_joined: Vec::new() };
        self.file = Some(file);
        Ok(true)
    }

    /// The next group: events that became complete, of all files up to the log's present end. Empty when nothing is new.
    fn read(&mut self) -> std::io::Result<Vec<Observation>> {
        let mut group = std::mem::take(&mut self.waiting);
        if self.file.is_none() {
            self.take_up(&self.path.clone(), 0)?;
        }
        loop {
            // Looked for before the reading: what auditd wrote to the old file it wrote before it began the younger one.
            let younger = self.younger();
            self.read_lines(&mut group, younger.is_some())?;
            match younger {
                Some(younger) if group.len() < GROUP_MAX => self.move_on(&younger)?,
                _ => break,
            }
        }
        let mut events = Vec::new();
        self.assembler.expire(self.now(), &mut events);
        group.extend(self.observed(events));
        if let Some(last) = group.last_mut() {
            last.cursor = self.cursor();
        }
        Ok(group)
    }

    /// What is new in the open file; its unended last line only once it is `complete`.
    fn read_lines(&mut self, group: &mut Vec<Observation>, complete: bool) -> std::io::Result<()> {
        let now = self.now();
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let read = self.read_file(&mut file, group, now, complete);
        self.file = Some(file);
        read
    }

    fn read_file(&mut self, file: &mut File, group: &mut Vec<Observation>, now: u64, complete: bool) -> std::io::Result<()> {
        if file.metadata()?.len() < self.place.offset {
            tracing::warn!(path = %self.path.display(), "audit.log became shorter: reading it anew");
            self.place.offset = 0;
            self.place.generation = self.place.generation.saturating_add(1);
            group.push(lost("the file became shorter than what had been read of it"));
        }
        file.seek(SeekFrom::Start(self.place.offset))?;
        let mut lines = Lines { reader: BufReader::new(file), whole: 0 };
        while group.len() < GROUP_MAX {
            let at = self.place.offset.saturating_add(lines.whole);
            let Some(line) = lines.next(complete)? else { break };
            let mut events = Vec::new();
            match Stamped::from_line(&line) {
                Ok(stamped) => self.assembler.push(stamped, now, &mut events),
                Err(_) if line.is_empty() => {}
                Err(reason) => group.push(unparsed(format!("{}:{}:{at}", self.place.inode, self.place.generation), line, reason)),
            }
            group.extend(self.observed(events));
        }
        self.place.offset = self.place.offset.saturating_add(lines.whole);
        Ok(())
    }

    /// The file after the open one, once auditd renamed that and began another. Between its renames there is no log for an
    /// instant: then there is none yet.
    fn younger(&self) -> Option<Rotated> {
        let is_ours = |file: &Rotated| (file.device, file.inode) == (self.place.device, self.place.inode);
        self.file.as_ref()?;
        let mut younger = Rotated::at(self.path.clone());
        if younger.as_ref().is_some_and(is_ours) {
            return None;
        }
        for file in rotated(&self.path).map_while(Rotated::at) {
            if is_ours(&file) {
                break;
            }
            younger = Some(file);
        }
        younger
    }

    /// Opens the younger file from its start; where auditd renamed once more meanwhile, the next look finds it.
    fn move_on(&mut self, younger: &Rotated) -> std::io::Result<()> {
        match Rotated::at(younger.path.clone()) {
            Some(now) if now == *younger => self.take_up(&younger.path, 0).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn cursor(&self) -> Option<Cursor> {
        let place = LogPlace { half_joined: half_joined(&self.assembler), ..self.place.clone() };
        Some(Cursor { key: key(&self.path), value: serde_json::to_vec(&place).ok()? })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A file of the log, as it was seen under its name.
#[derive(Debug, PartialEq, Eq)]
struct Rotated {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Rotated {
    fn at(path: PathBuf) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self { path, device: metadata.dev(), inode: metadata.ino() })
    }
}

/// `audit.log.1`, `.2` … as far as they exist.
fn rotated(path: &Path) -> impl Iterator<Item = PathBuf> {
    let path = path.as_os_str().to_owned();
    let numbered = (1..=ROTATED_MAX).map(move |number| {
        let mut path = path.clone();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    });
    numbered.take_while(|path| path.exists())
}

fn observation(position: String, time: u64, payload: Payload) -> Observation {
    Observation { source: SourceName::Audit, position, time, payload, cursor: None, answer: None }
}

fn of_event(event: Event) -> Observation {
    observation(event.position(), event.stamp.nanoseconds(), Payload::Audit(event))
}

fn unparsed(position: String, bytes: Vec<u8>, reason: RecordError) -> Observation {
    observation(position, unix_nanoseconds(), Payload::Unparsed(Unparsed { bytes, reason: reason.to_string() }))
}

fn lost(evidence: &str) -> Observation {
    let time = unix_nanoseconds();
    let loss = Loss {
        cause: GapCause::SourceUnreadable,
        count: None,
        exact: false,
        evidence: evidence.to_owned(),
        from: time,
        to: time,
    };
    observation(format!("loss/{time}"), time, Payload::Loss(loss))
}

fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(serial: u32) -> String {
        format!("type=USER_AVC msg=audit(100.001:{serial}): pid=1\n")
    }

    fn append(path: &Path, text: &str) {
        File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Positions of all that can be read now, and the last cursor.
    fn drain(follower: &mut Follower) -> (Vec<String>, Option<Cursor>) {
        let (mut positions, mut cursor, mut quiet) = (Vec::new(), None, 0);
        while quiet < 3 || !follower.assembler.is_empty() {
            let group = follower.read().unwrap();
            quiet = if group.is_empty() { quiet + 1 } else { 0 };
            for observation in group {
                cursor = observation.cursor.or(cursor);
                positions.push(observation.position);
            }
        }
        (positions, cursor)
    }

    #[test]
    fn lines_are_read_once_across_rotation_and_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, &line(1));
        let mut follower = Follower::open(path.clone(), None).unwrap();
        append(&path, &line(2));
        let (positions, cursor) = drain(&mut follower);
        assert_eq!(positions, ["100.001:2"], "without a cursor reading begins at the end");
        append(&path, &line(3));
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        append(&path, &line(4));
        assert_eq!(drain(&mut follower).0, ["100.001:3", "100.001:4"]);
        let mut restarted = Follower::open(path.clone(), cursor).unwrap();
        std::fs::rename(directory.path().join("audit.log.1"), directory.path().join("audit.log.2")).unwrap();
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        append(&path, &line(5));
        assert_eq!(drain(&mut restarted).0, ["100.001:3", "100.001:4", "100.001:5"]);
    }

    /// A second is longer than the journal waits for the kernel's report.
    #[tokio::test]
    async fn a_line_is_read_when_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, "");
        let (intake, mut outlet) = crate::observation::intake();
        let stop = CancellationToken::new();
        let hour = Duration::from_secs(3600);
        let mut following = tokio::task::JoinSet::new();
        following.spawn(follow(path.clone(), None, intake, stop.clone(), hour));
        // Until the follower stands at the end: what is written before may not be its.
        let mut group = None;
        for _ in 0..60 {
            append(&path, &line(1));
            if let Ok(read) = tokio::time::timeout(Duration::from_millis(500), outlet.recv()).await {
                group = read;
                break;
            }
        }
        assert_eq!(group.expect("a line is read without a poll")[0].position, "100.001:1");
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        append(&path, &line(2));
        let next = async {
            loop {
                if outlet.recv().await.unwrap().iter().any(|it| it.position == "100.001:2") {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("the new file is read without a poll");
        stop.cancel();
        following.join_next().await.unwrap().unwrap().unwrap();
    }

    #[test]
    fn one_look_reads_the_old_file_to_its_end_and_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, "");
        let mut follower = Follower::open(path.clone(), None).unwrap();
        append(&path, &line(1));
        // auditd was killed in the middle of a line, and began a new log when it was started again.
        append(&path, "half a li");
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        append(&path, &line(2));
        let group = follower.read().unwrap();
        assert_eq!((group.len(), group[0].position.as_str(), group[2].position.as_str()), (3, "100.001:1", "100.001:2"));
        let Payload::Unparsed(half) = &group[1].payload else { panic!("{:?}", group[1]) };
        assert_eq!(half.bytes, b"half a li");
        assert!(follower.read().unwrap().is_empty(), "each is read once");
    }

    #[test]
    fn what_the_agent_does_itself_is_no_event_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, "");
        let mut follower = Follower::open(path.clone(), None).unwrap();
        let now = unix_nanoseconds() / 1_000_000_000;
        for (serial, pid) in [(1, std::process::id()), (2, 1)] {
            append(
                &path,
                &format!(
                    "type=SYSCALL msg=audit({now}.001:{serial}): arch=c000003e syscall=257 success=yes exit=3 ppid=1 pid={pid} auid=4294967295 uid=0 comm=\"x\" exe=\"/x\" key=(null)\ntype=PROCTITLE msg=audit({now}.001:{serial}): proctitle=\"x\"\n"
                ),
            );
        }
        assert_eq!(drain(&mut follower).0, [format!("{now}.001:2")]);
        assert!(follower.is_own, "and the next look is not taken at once");
    }

    #[test]
    fn half_a_line_waits_and_junk_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, "");
        let mut follower = Follower::open(path.clone(), None).unwrap();
        append(&path, &line(1)[..20]);
        assert!(drain(&mut follower).0.is_empty());
        append(&path, &line(1)[20..]);
        append(&path, "junk\n");
        let (positions, _) = drain(&mut follower);
        assert_eq!((positions.len(), positions[0].as_str()), (2, "100.001:1"));
    }

    #[test]
    fn a_lost_file_is_a_gap_and_a_shorter_one_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        append(&path, &line(1));
        let mut follower = Follower::open(path.clone(), None).unwrap();
        append(&path, &line(2));
        let (_, cursor) = drain(&mut follower);
        std::fs::write(&path, line(3)).unwrap();
        let (positions, _) = drain(&mut follower);
        assert!(positions[0].starts_with("loss/") && positions[1] == "100.001:3", "{positions:?}");
        let elsewhere = directory.path().join("other.log");
        append(&elsewhere, &line(4));
        let (positions, _) = drain(&mut Follower::open(elsewhere, cursor).unwrap());
        assert!(positions[0].starts_with("loss/") && positions[1] == "100.001:4", "{positions:?}");
    }
}
