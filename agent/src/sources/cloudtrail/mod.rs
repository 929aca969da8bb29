//! CloudTrail's log files in a directory, as a source: each record byte for byte, each file once, digests checked.
//!
//! The directory is a copy of a bucket (`aws s3 sync`) or another collector's directory trail. Records keep their own
//! identity, so account and region must be in the agent's binding: use a gateway's token. The cursor names the files
//! that are done, one list a folder, and how far the one under way is.

mod digest;

pub mod document;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::digest::{Finding, Keys};
use super::SourceError;
use super::file::{Format, Line};
use super::watch::Watch;
use crate::clock::unix_ns;
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Stopped, Unparsed};

/// One section `[[sources.cloudtrail]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bucket's folder; everything below it is looked at.
    pub directory: PathBuf,
    /// What `aws cloudtrail list-public-keys` printed, to check digests' signatures.
    #[serde(default)]
    pub keys: Option<PathBuf>,
}

/// How far the file under way is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    path: String,
    records: usize,
}

/// One directory's follower: a thread's state.
struct Follower {
    root: PathBuf,
    keys: Keys,
    watch: Watch,
    watched: HashSet<PathBuf>,
    /// By folder: hashes of the names of files that are done.
    done: HashMap<PathBuf, BTreeSet<String>>,
    part: Part,
    /// Files that could not be read to their end yet, and since when they are as long as they are.
    unfinished: HashMap<PathBuf, (u64, Instant)>,
}

/// A file that does not grow for so long and still can't be read to its end is told as it is.
const UNFINISHED_MAX: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(60) };

/// Folders below the directory that are looked into: a bucket's keys have nine levels.
const DEPTH_MAX: usize = 16;

/// Most files that are looked at in one folder at once.
const FILES_MAX: usize = 1_000_000;

/// Follows all directories until told to stop.
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

/// Follows one directory until told to stop. `cursors` are this source's.
async fn run(config: Config, cursors: &[Cursor], intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
    let failed = |doing: &str, cause| SourceError::Failed { source_name: SourceName::CloudTrail, doing: doing.to_owned(), cause };
    let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::CloudTrail, why };
    let keys = config.keys.as_deref().map(Keys::read).transpose().map_err(unavailable)?.unwrap_or_default();
    let (watch, waker) = Watch::new().map_err(|error| failed("setting up inotify", error.into()))?;
    let root = config.directory;
    let folder = |cursor: &Cursor| {
        let path = PathBuf::from(cursor.key.strip_prefix("done:")?);
        path.starts_with(&root).then(|| (path, serde_json::from_slice(&cursor.value).unwrap_or_default()))
    };
    let done = cursors.iter().filter_map(folder).collect();
    let part = cursors.iter().find(|cursor| cursor.key == part_key(&root));
    let part = part.and_then(|cursor| serde_json::from_slice(&cursor.value).ok()).unwrap_or_default();
    let follower = Follower { root, keys, watch, watched: HashSet::new(), done, part, unfinished: HashMap::new() };
    match waker.run(&stop, move |seen| follower.run(&intake, seen)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed("waiting for changes", error.into())),
        Err(error) => Err(failed("following a directory", error.into())),
    }
}

fn part_key(root: &Path) -> String {
    format!("part:{}", root.display())
}

impl Follower {
    fn run(mut self, intake: &Intake, stop: &CancellationToken) -> std::io::Result<()> {
        while !stop.is_cancelled() {
            // Folders are watched before they are listed: no file falls between.
            let mut files = Vec::new();
            let root = self.root.clone();
            self.list(&root, DEPTH_MAX, &mut files);
            // Log files before digests, which judge them.
            files.sort_by_key(|path| (is_digest(path), path.clone()));
            for path in files {
                if stop.is_cancelled() || self.take(&path, intake).is_err() {
                    return Ok(());
                }
            }
            let timeout = (!self.unfinished.is_empty()).then_some(UNFINISHED_MAX);
            self.watch.wait(timeout)?;
        }
        Ok(())
    }

    /// The files that are not done.
    fn list(&mut self, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        if !self.watched.contains(folder) && self.watch.tree(folder).is_ok() {
            self.watched.insert(folder.to_owned());
        }
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten().take(FILES_MAX) {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => self.list(&path, depth - 1, files),
                Ok(kind) if kind.is_file() && is_wanted(&path) && !self.is_done(&path) => files.push(path),
                _ => {}
            }
        }
    }

    fn is_done(&self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return true };
        self.done.get(folder).is_some_and(|done| done.contains(&short(name.as_encoded_bytes())))
    }

    /// One file: its records, or what it is instead; then that it is done.
    fn take(&mut self, path: &Path, intake: &Intake) -> Result<(), Stopped> {
        let Ok(raw) = std::fs::read(path) else { return Ok(()) };
        let length = raw.len() as u64;
        let label = path.to_string_lossy().into_owned();
        let expanded = document::expanded(raw);
        let read = expanded.as_ref().map_err(ToString::to_string).and_then(|bytes| {
            if is_digest(path) { Ok(Vec::new()) } else { document::records(bytes).map_err(|error| error.to_string()) }
        });
        let mut group = Vec::new();
        match read {
            Err(reason) => {
                // Its writer may be at it: as long as it grows, it is let be.
                let seen = self.unfinished.entry(path.to_owned()).or_insert((length, Instant::now()));
                if seen.0 != length {
                    *seen = (length, Instant::now());
                }
                if seen.1.elapsed() < UNFINISHED_MAX {
                    return Ok(());
                }
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
                        intake.send_blocking(std::mem::take(&mut group))?;
                    }
                }
                if let (true, Ok(bytes)) = (is_digest(path), &expanded) {
                    let findings = digest::check(&self.root, path, bytes, &self.keys);
                    group.extend(findings.into_iter().map(gap));
                }
            }
        }
        self.unfinished.remove(path);
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            let done = self.done.entry(folder.to_owned()).or_default();
            done.insert(short(name.as_encoded_bytes()));
            let value = serde_json::to_vec(done).unwrap_or_default();
            let cursor = Cursor { key: format!("done:{}", folder.display()), value };
            // Behind all its records: from here on a restart does not look at the file again.
            group.push(observation(String::new(), Payload::Nothing, Some(cursor)));
        }
        intake.send_blocking(group)
    }

    fn part_cursor(&self) -> Cursor {
        Cursor { key: part_key(&self.root), value: serde_json::to_vec(&self.part).unwrap_or_default() }
    }
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

/// Log files and digests by their names; not what lies beside them.
fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_proof = path.components().any(|part| part.as_os_str() == "CloudTrail-Proof");
    (name.ends_with(".json.gz") || name.ends_with(".json"))
        && !name.ends_with(".meta.json")
        && !name.starts_with('.')
        && !is_proof
}

/// 8 bytes of a name's hash, hex.
fn short(name: &[u8]) -> String {
    hex::encode(Sha256::digest(name).get(..8).unwrap_or_default())
}
