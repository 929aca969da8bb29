//! CloudTrail's log files, in a directory or a bucket, as a source: each record byte for byte, each file once, digests checked.
//!
//! A directory is a copy of a bucket (`aws s3 sync`) or another collector's directory trail. Records keep their own
//! identity, so account and region must be in the agent's binding: use a gateway's token. The cursor names the files
//! that are done, one list a folder, and how far the one under way is.

#[cfg(feature = "s3-source")]
mod bucket;

mod digest;

pub mod document;

mod place;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgetrail_settings::Span;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::digest::{Finding, Keys};
use self::document::DocumentError;
use self::place::{Content, Directory, Place};
use super::SourceError;
use super::file::{Format, Line};
use super::watch::Watch;
use crate::clock::unix_ns;
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Unparsed};

/// One section `[[sources.cloudtrail]]`: a directory or a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The bucket's folder on this host; everything below it is looked at.
    pub directory: Option<PathBuf>,
    /// A bucket, read from where it is. Of agents built with the feature `s3-source`.
    pub bucket: Option<String>,
    /// The folder of the bucket; all of it unless given.
    pub prefix: String,
    /// Of the bucket; what the environment says unless given.
    pub region: Option<String>,
    /// Of another store than AWS's: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// The environment's, or the instance's role, unless given.
    pub access_key_id: Option<String>,
    /// A file that holds the key's secret alone, mode 600 or 640.
    pub secret_file: Option<PathBuf>,
    /// How often a bucket is listed.
    pub poll: Option<Span>,
    /// What `aws cloudtrail list-public-keys` printed, to check digests' signatures.
    pub keys: Option<PathBuf>,
}

/// How far the file under way is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    path: String,
    records: usize,
}

/// One place's follower: a thread's state.
struct Follower {
    place: Box<dyn Place>,
    keys: Keys,
    /// By folder: hashes of the names of files that are done.
    done: HashMap<PathBuf, BTreeSet<String>>,
    part: Part,
    /// Files that could not be read to their end yet, and since when they are as long as they are.
    unfinished: HashMap<PathBuf, (u64, Instant)>,
    /// When a file last came.
    changed: Instant,
    /// Digests that name what is not here.
    waiting: HashMap<PathBuf, Waiting>,
    /// By lane: the name of the oldest digest ever seen there.
    oldest: HashMap<String, String>,
}

/// A digest that waits for a file.
struct Waiting {
    since: Instant,
    /// Looked for first: while it is missing, nothing else needs to be read again.
    object: String,
}

const EITHER: &str = "give `directory` or `bucket`, one of both";

#[cfg_attr(feature = "s3-source", allow(dead_code, reason = "said where the feature is not built in"))]
const NO_BUCKETS: &str = "this agent was built without buckets (cargo feature `s3-source`): use a gateway's build, or sync the bucket to a `directory`";

/// A file that does not grow for so long and still can't be read to its end is told as it is.
const UNFINISHED_MAX: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(60) };

/// How long nothing has come when a digest is judged though files that it names are missing: `aws s3 sync` brings the
/// digests first.
const QUIET: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(15 * 60) };

/// How long a digest waits at most: where something always comes, it is never quiet.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows all places until told to stop.
pub async fn run_all(
    configs: Vec<Config>,
    cursors: Vec<Cursor>,
    intake: Intake,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let cursors = Arc::new(cursors);
    let mut following = JoinSet::new();
    for config in configs {
        let (cursors, intake, stop) = (Arc::clone(&cursors), intake.clone(), stop.child_token());
        following.spawn(async move { run(config, &cursors, intake, stop).await });
    }
    drop(intake);
    while let Some(ended) = following.join_next().await {
        // One that fails ends all: they start again together.
        if let Ok(Err(error)) = ended {
            return Err(error);
        }
    }
    Ok(())
}

/// Follows one place until told to stop. `cursors` are this source's.
async fn run(config: Config, cursors: &[Cursor], intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
    let failed = |doing: &str, cause| SourceError::Failed { source_name: SourceName::CloudTrail, doing: doing.to_owned(), cause };
    let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::CloudTrail, why };
    let keys = config.keys.as_deref().map(Keys::read).transpose().map_err(unavailable)?.unwrap_or_default();
    let (watch, waker) = Watch::new().map_err(|error| failed("setting up inotify", error.into()))?;
    let place = open(&config, watch, &stop).map_err(unavailable)?;
    let follower = Follower::new(place, keys, cursors);
    match waker.run(&stop, move |seen| follower.run(&intake, seen)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed("reading log files", error.into())),
        Err(error) => Err(failed("following log files", error.into())),
    }
}

#[cfg(feature = "s3-source")]
fn open_bucket(config: &Config, watch: Watch, stop: &CancellationToken) -> Result<Box<dyn Place>, String> {
    Ok(Box::new(bucket::Bucket::open(config, watch, stop.clone())?))
}

#[cfg(not(feature = "s3-source"))]
fn open_bucket(_: &Config, _: Watch, _: &CancellationToken) -> Result<Box<dyn Place>, String> {
    Err(NO_BUCKETS.to_owned())
}

fn open(config: &Config, watch: Watch, stop: &CancellationToken) -> Result<Box<dyn Place>, String> {
    match (&config.directory, &config.bucket) {
        (Some(directory), None) => Ok(Box::new(Directory::new(directory, watch))),
        (None, Some(_)) => open_bucket(config, watch, stop),
        _ => Err(EITHER.to_owned()),
    }
}

fn part_key(root: &Path) -> String {
    format!("part:{}", root.display())
}

impl Config {
    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        let why = match (&self.directory, &self.bucket) {
            (Some(_), None) => {
                let is_remote = self.region.is_some() || self.endpoint.is_some() || self.access_key_id.is_some();
                is_remote.then_some("`region`, `endpoint` and `access_key_id` are of a `bucket`")
            }
            (None, Some(_)) if !cfg!(feature = "s3-source") => Some(NO_BUCKETS),
            (None, Some(_)) if self.access_key_id.is_some() != self.secret_file.is_some() => {
                Some("give both `access_key_id` and `secret_file`, or neither")
            }
            (None, Some(_)) if self.prefix.starts_with('/') => {
                Some("`prefix` is a folder of the bucket: leave out the leading `/`")
            }
            (None, Some(_)) => None,
            _ => Some(EITHER),
        };
        why.map(str::to_owned)
    }

    /// What it reads, for people.
    pub fn title(&self) -> String {
        match (&self.directory, &self.bucket) {
            (Some(directory), _) => directory.display().to_string(),
            (None, Some(bucket)) => format!("s3://{bucket}/{}", self.prefix),
            (None, None) => "nothing".to_owned(),
        }
    }
}

impl Follower {
    /// Goes on from what was committed. `cursors` are this source's.
    fn new(place: Box<dyn Place>, keys: Keys, cursors: &[Cursor]) -> Self {
        let root = place.root().to_owned();
        let folder = |cursor: &Cursor| {
            let path = PathBuf::from(cursor.key.strip_prefix("done:")?);
            path.starts_with(&root).then(|| (path, serde_json::from_slice(&cursor.value).unwrap_or_default()))
        };
        let done = cursors.iter().filter_map(folder).collect();
        let part = cursors.iter().find(|cursor| cursor.key == part_key(&root));
        let part = part.and_then(|cursor| serde_json::from_slice(&cursor.value).ok()).unwrap_or_default();
        let lane = |cursor: &Cursor| {
            let lane = cursor.key.strip_prefix("lane:").filter(|lane| Path::new(lane).starts_with(&root))?;
            Some((lane.to_owned(), String::from_utf8(cursor.value.clone()).ok()?))
        };
        let oldest = cursors.iter().filter_map(lane).collect();
        let (unfinished, waiting) = (HashMap::new(), HashMap::new());
        Self { place, keys, done, part, unfinished, changed: Instant::now(), waiting, oldest }
    }

    fn run(mut self, intake: &Intake, stop: &CancellationToken) -> io::Result<()> {
        while !stop.is_cancelled() {
            let ended = |error: io::Error| {
                if stop.is_cancelled() || error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
            };
            if let Err(error) = self.pass(intake, stop) {
                return ended(error);
            }
            let timeouts = [(!self.unfinished.is_empty(), UNFINISHED_MAX), (!self.waiting.is_empty(), QUIET)];
            let timeout = timeouts.into_iter().filter_map(|(is_due, timeout)| is_due.then_some(timeout)).min();
            self.place.wait(timeout)?;
        }
        Ok(())
    }

    /// Everything that is there and not done.
    fn pass(&mut self, intake: &Intake, stop: &CancellationToken) -> io::Result<()> {
        let done = &self.done;
        let mut files = self.place.list(&|path| is_done(done, path))?;
        // Log files before digests, which judge them.
        files.sort_by_key(|path| (is_digest(path), path.clone()));
        let listed: HashSet<&PathBuf> = files.iter().filter(|path| is_digest(path)).collect();
        self.waiting.retain(|path, _| listed.contains(path));
        self.know(&files, intake)?;
        for path in files {
            if stop.is_cancelled() {
                return Ok(());
            }
            self.take(&path, intake)?;
        }
        Ok(())
    }

    /// Notes the oldest digest of each lane, for what is missing behind it is no end of the copy.
    fn know(&mut self, files: &[PathBuf], intake: &Intake) -> io::Result<()> {
        let mut group = Vec::new();
        for (lane, name) in files.iter().filter(|path| is_digest(path)).filter_map(|path| lane_of(path)) {
            if self.oldest.get(&lane).is_some_and(|oldest| *oldest <= name) {
                continue;
            }
            let cursor = Cursor { key: format!("lane:{lane}"), value: name.clone().into_bytes() };
            self.oldest.insert(lane, name);
            group.push(observation(String::new(), Payload::Nothing, Some(cursor)));
            if group.len() >= GROUP_MAX {
                send(intake, std::mem::take(&mut group))?;
            }
        }
        if group.is_empty() { Ok(()) } else { send(intake, group) }
    }

    /// What a digest's check finds; `None` while it waits for a file that may still come.
    fn judge(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Option<Vec<Finding>>> {
        let is_over = |since: Instant, changed: Instant| changed.elapsed() >= QUIET || since.elapsed() >= WAIT_MAX;
        if let Some(waiting) = self.waiting.get(path)
            && !is_over(waiting.since, self.changed)
            && matches!(self.place.object(&waiting.object)?, Content::Gone)
        {
            return Ok(None);
        }
        let is_oldest = lane_of(path).is_none_or(|(lane, name)| self.oldest.get(&lane).is_none_or(|oldest| *oldest >= name));
        let checked = digest::check(self.place.as_ref(), path, bytes, &self.keys, is_oldest)?;
        let Some(object) = checked.missing else { return Ok(Some(checked.findings)) };
        let waiting =
            self.waiting.entry(path.to_owned()).or_insert_with(|| Waiting { since: Instant::now(), object: String::new() });
        waiting.object = object;
        Ok(is_over(waiting.since, self.changed).then_some(checked.findings))
    }

    /// One file: its records, or what it is instead; then that it is done.
    fn take(&mut self, path: &Path, intake: &Intake) -> io::Result<()> {
        let (length, head, expanded) = match self.place.read(path)? {
            Content::Gone => return Ok(()),
            Content::TooLarge => (0, [0; 2], Err(DocumentError::TooLarge)),
            Content::Bytes(raw) => {
                let head = raw.first_chunk().copied().unwrap_or_default();
                (raw.len() as u64, head, document::expanded(raw))
            }
        };
        let label = path.to_string_lossy().into_owned();
        let read = expanded.as_ref().map_err(ToString::to_string).and_then(|bytes| {
            // A file is empty until its writer has written: to be done with it would lose all of it.
            if bytes.trim_ascii().is_empty() {
                return Err("it is empty".to_owned());
            }
            if is_digest(path) { Ok(Vec::new()) } else { document::records(bytes).map_err(|error| error.to_string()) }
        });
        // Records one after another are whole between any two.
        let is_open = self.place.may_grow() && expanded.as_ref().is_ok_and(|bytes| !document::has_an_end(&head, bytes));
        if (read.is_err() || is_open) && self.may_be_written(path, length) {
            return Ok(());
        }
        let mut group = Vec::new();
        match read {
            Err(reason) => {
                let bytes = expanded.unwrap_or_default();
                let payload = Payload::Unparsed(Unparsed { bytes, reason: format!("{label}: {reason}") });
                group.push(observation(format!("{label}#file"), payload, None));
            }
            Ok(records) => {
                let before = if self.part.path == label { self.part.records } else { 0 };
                for (index, record) in records.iter().enumerate().skip(before) {
                    self.part = Part { path: label.clone(), records: index + 1 };
                    let line =
                        Line { bytes: Bytes::copy_from_slice(record), format: Format::CloudTrail, path: label.as_str().into() };
                    group.push(observation(format!("{label}#{index}"), Payload::Line(line), Some(self.part_cursor())));
                    if group.len() >= GROUP_MAX {
                        send(intake, std::mem::take(&mut group))?;
                    }
                }
                if let (true, Ok(bytes)) = (is_digest(path), &expanded) {
                    let Some(findings) = self.judge(path, bytes)? else { return Ok(()) };
                    group.extend(findings.into_iter().map(gap));
                }
            }
        }
        self.unfinished.remove(path);
        if self.waiting.remove(path).is_none() {
            self.changed = Instant::now();
        }
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            let done = self.done.entry(folder.to_owned()).or_default();
            done.insert(short(name.as_encoded_bytes()));
            let value = serde_json::to_vec(done).unwrap_or_default();
            let cursor = Cursor { key: format!("done:{}", folder.display()), value };
            // Behind all its records: from here on a restart does not look at the file again.
            group.push(observation(String::new(), Payload::Nothing, Some(cursor)));
        }
        send(intake, group)
    }

    /// Whether a file's writer may be at it: as long as it grows, it is let be.
    fn may_be_written(&mut self, path: &Path, length: u64) -> bool {
        let seen = self.unfinished.entry(path.to_owned()).or_insert((length, Instant::now()));
        if seen.0 != length {
            *seen = (length, Instant::now());
            self.changed = seen.1;
        }
        seen.1.elapsed() < UNFINISHED_MAX
    }

    fn part_cursor(&self) -> Cursor {
        Cursor { key: part_key(self.place.root()), value: serde_json::to_vec(&self.part).unwrap_or_default() }
    }
}

fn is_done(done: &HashMap<PathBuf, BTreeSet<String>>, path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return true };
    done.get(folder).is_some_and(|done| done.contains(&short(name.as_encoded_bytes())))
}

/// A pipeline that has stopped is a stop of this source, too.
fn send(intake: &Intake, group: Vec<Observation>) -> io::Result<()> {
    intake.send_blocking(group).map_err(|_| io::ErrorKind::Interrupted.into())
}

fn observation(position: String, payload: Payload, cursor: Option<Cursor>) -> Observation {
    Observation { source: SourceName::CloudTrail, position, time: unix_ns(), payload, cursor, answer: None }
}

fn gap(finding: Finding) -> Observation {
    let now = unix_ns();
    let Finding { place, evidence } = finding;
    let loss = Loss { cause: GapCause::SourceUnreadable, count: None, exact: false, evidence, from: now, to: now };
    observation(place, Payload::Loss(loss), None)
}

fn is_digest(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "CloudTrail-Digest")
}

/// The lane of a digest, one trail's in one region, and its name there, which is its time's:
/// `…/CloudTrail-Digest/R/YYYY/MM/DD/A_CloudTrail-Digest_R_TRAIL_HOME_TIME.json.gz`.
fn lane_of(path: &Path) -> Option<(String, String)> {
    let is_digits = |part: &Path| part.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let mut folder = path.parent()?;
    while is_digits(folder) {
        folder = folder.parent()?;
    }
    let name = path.file_name()?.to_str()?;
    let (trail, time) = name.rsplit_once('_').unwrap_or(("", name));
    Some((folder.join(trail).to_str()?.to_owned(), time.to_owned()))
}

/// 8 bytes of a name's hash, hex.
fn short(name: &[u8]) -> String {
    hex::encode(Sha256::digest(name).get(..8).unwrap_or_default())
}
