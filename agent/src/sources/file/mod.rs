//! Lines of files, followed across rotation.
//!
//! A line is read once and whole: a partial last line waits for its end. A file is known by device, inode and beginning,
//! not by its name: whatever paths a pattern names, each file is read once. Renaming, truncation and replacement are
//! noticed; what they took away before it could be read is reported as a loss.

mod beside;
mod followed;
mod followee;
mod pattern;
mod place;
pub mod syslog;
mod tail;

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::followed::{CURSOR_PREFIX, Copy, Followed};
use self::followee::LEAVING_QUIET;
use self::pattern::{FILES_MAX, Matches, Pattern};
use super::SourceError;
use super::lines::framing::Framing;
use super::lines::shape::{self, AccessShape};
use super::lines::{Mapping, MappingError};
use super::watch::{Change, Watch};
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Stopped};

/// One section `[[sources.file]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files to follow; `*`, `?` and `[…]` match within one path component.
    pub paths: Vec<String>,
    /// `events`, `cloudtrail`, `kubernetes`, `syslog`, `sudo`, or the name of a shipped mapping; `events` unless given.
    pub format: Option<String>,
    /// A mapping: a shipped one's name, or the path of a file. Instead of `format`.
    pub mapping: Option<String>,
    /// Where to begin in a file that was there before the agent first saw it.
    #[serde(default)]
    pub start: Start,
    /// How requests of access logs become records; goes over what the mapping says.
    #[serde(default)]
    pub access: AccessShape,
}

/// What a line holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An event in the shape of `POST /v1/events`.
    #[default]
    Events,
    /// A record in CloudTrail's own format, or `{"Records":[…]}`; kept byte for byte.
    CloudTrail,
    /// An event of the Kubernetes API server's audit log.
    Kubernetes,
    /// A line of syslog, as `auth.log`, `secure` and `messages` have them.
    Syslog,
    /// An entry of sudo's own log, `log_format=json`.
    Sudo,
    /// Fields that a mapping makes a record of.
    Mapped(Arc<Mapping>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    Beginning,
    #[default]
    End,
}

/// One line of a followed file, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub bytes: Bytes,
    pub format: Format,
    /// The configured path's match that the line was written to.
    pub path: Arc<str>,
}

/// The source: all followed files, read by one thread.
#[derive(Debug)]
pub struct FileSource {
    sections: Vec<Section>,
    cursors: HashMap<String, Vec<u8>>,
}

#[derive(Debug)]
struct Section {
    config: Config,
    format: Format,
    patterns: Vec<Pattern>,
}

impl Format {
    /// How its lines are told apart.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Mapped(mapping) if mapping.format == shape::Format::Postgresql => Framing::Quoted,
            Self::Sudo => Framing::Members,
            Self::Kubernetes => Framing::Cri,
            // What containers write; audit devices, engines and syslog have no runtime around them.
            Self::Mapped(mapping)
                if matches!(
                    mapping.format,
                    shape::Format::Access | shape::Format::Json | shape::Format::Logfmt | shape::Format::Regex
                ) =>
            {
                Framing::Cri
            }
            _ => Framing::Lines,
        }
    }
}

impl Config {
    /// What a line of these files is; an error says what to change.
    pub fn read_as(&self) -> Result<Format, MappingError> {
        match (self.mapping.as_deref(), self.format.as_deref()) {
            (None, None | Some("events")) => Ok(Format::Events),
            (None, Some("cloudtrail")) => Ok(Format::CloudTrail),
            (None, Some("kubernetes")) => Ok(Format::Kubernetes),
            (None, Some("syslog")) => Ok(Format::Syslog),
            (None, Some("sudo")) => Ok(Format::Sudo),
            (Some(name), _) | (None, Some(name)) => Mapping::open(name, self.access.clone()).map(Format::Mapped),
        }
    }
}

impl FileSource {
    /// `cursors` are this source's, as the buffer holds them. Files need not exist: they are taken up when they do.
    pub fn new(configs: Vec<Config>, cursors: Vec<Cursor>) -> Result<Self, SourceError> {
        let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::File, why };
        if configs.is_empty() {
            return Err(unavailable("no file is configured: add [[sources.file]] with paths".to_owned()));
        }
        let section = |config: Config| {
            let pattern = |path: &String| {
                let why = || format!("sources.file.paths: `{path}` is not absolute, or holds `..`: give a path from / on");
                Pattern::new(path).ok_or_else(|| unavailable(why()))
            };
            let patterns = config.paths.iter().map(pattern).collect::<Result<_, _>>()?;
            let format = config.read_as().map_err(|error| unavailable(error.to_string()))?;
            Ok(Section { config, format, patterns })
        };
        let sections = configs.into_iter().map(section).collect::<Result<_, _>>()?;
        Ok(Self { sections, cursors: cursors.into_iter().map(|cursor| (cursor.key, cursor.value)).collect() })
    }

    /// Follows until told to stop.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        let failed = |doing: &str, cause| SourceError::Failed { source_name: SourceName::File, doing: doing.to_owned(), cause };
        let (watch, waker) = Watch::new().map_err(|error| failed("setting up inotify", error.into()))?;
        let follower = Follower::new(self, watch);
        let ended = waker.run(&stop, move |seen| follower.run(&intake, seen)).await;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed("waiting for changes", error.into())),
            Err(error) => Err(failed("following files", error.into())),
        }
    }
}

/// The thread's state.
struct Follower {
    sections: Vec<Section>,
    /// Cursors of paths that were not taken up yet.
    cursors: HashMap<String, Vec<u8>>,
    watch: Watch,
    followed: BTreeMap<PathBuf, Followed>,
    /// Watched directories.
    watched: BTreeMap<PathBuf, i32>,
    /// Nothing was looked at yet.
    is_first: bool,
    /// A file was found that may be a copy in the making.
    is_undecided: bool,
    /// More files are named than are followed; said already.
    is_over: bool,
}

/// Which section's pattern names a path: their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    section: usize,
    pattern: usize,
}

/// Which path has a file, by device and inode.
type Owners = HashMap<(u64, u64), PathBuf>;

/// How soon a file is looked at again that may be a copy in the making.
const UNDECIDED_WAIT: Duration = Duration::from_millis(250);

impl Follower {
    fn new(source: FileSource, watch: Watch) -> Self {
        Self {
            sections: source.sections,
            cursors: source.cursors,
            watch,
            followed: BTreeMap::new(),
            watched: BTreeMap::new(),
            is_first: true,
            is_undecided: false,
            is_over: false,
        }
    }

    fn run(mut self, intake: &Intake, stop: &CancellationToken) -> std::io::Result<()> {
        let mut rescan = true;
        loop {
            let mut out = Vec::new();
            if rescan {
                self.scan(&mut out);
            }
            if send(intake, out).is_err() || self.read_all(intake, stop).is_err() {
                return Ok(());
            }
            let undecided = self.is_undecided.then_some(UNDECIDED_WAIT);
            let deadline = self.followed.values().filter_map(Followed::deadline).chain(undecided).min();
            let changes = self.watch.wait(deadline)?;
            if stop.is_cancelled() {
                return Ok(());
            }
            rescan = self.is_undecided;
            for change in changes {
                rescan |= match change {
                    Change::At(watch) => self.watched.values().any(|directory| *directory == watch),
                    Change::Gone(watch) => {
                        self.watched.retain(|_, directory| *directory != watch);
                        true
                    }
                    Change::Everything => true,
                };
            }
        }
    }

    /// Looks at what the patterns name now. All that cursors know is found again before anything is taken for new.
    fn scan(&mut self, out: &mut Vec<Observation>) {
        let found = self.find();
        let mut left_out = None;
        for (path, named) in &found {
            let key = format!("{CURSOR_PREFIX}{}", path.to_string_lossy());
            if !self.followed.contains_key(path)
                && self.followed.len() < FILES_MAX
                && let Some(cursor) = self.cursors.remove(&key)
            {
                let mut followed = self.not_yet_read(path, *named);
                followed.resume(&cursor, out);
                self.followed.insert(path.clone(), followed);
            }
        }
        let mut owners = Owners::new();
        for (path, followed) in &self.followed {
            owners.extend(followed.ids().map(|id| (id, path.clone())));
        }
        self.is_undecided = false;
        for (path, named) in &found {
            if self.is_anothers(path, &owners) {
                continue;
            }
            if !self.followed.contains_key(path) && self.followed.len() >= FILES_MAX {
                left_out.get_or_insert(path.clone());
                continue;
            }
            self.look(path, *named, &found, &owners, out);
            owners.extend(self.followed.get(path).into_iter().flat_map(Followed::ids).map(|id| (id, path.clone())));
        }
        self.is_first = false;
        for followed in self.followed.values_mut() {
            followed.look_at_left(out);
        }
        if let Some(path) = &left_out
            && !self.is_over
        {
            out.push(left_out_gap(path));
        }
        self.is_over = left_out.is_some();
        for followee in self.followed.values_mut().flat_map(|followed| followed.tails.iter_mut()) {
            if followee.tail.watch.is_none() {
                followee.tail.watch = self.watch.content(followee.tail.own_path().as_ref()).ok();
            }
        }
    }

    /// What the patterns name. Directories are watched before they are listed, files before they are read, so that no
    /// change falls between.
    fn find(&mut self) -> BTreeMap<PathBuf, Named> {
        let mut all = BTreeMap::new();
        for (section, of_section) in self.sections.iter().enumerate() {
            for (pattern, one) in of_section.patterns.iter().enumerate() {
                let mut found = Matches::default();
                one.find(&mut found);
                let mut is_new = false;
                for directory in &found.directories {
                    if !self.watched.contains_key(directory)
                        && let Ok(watch) = self.watch.directory(directory)
                    {
                        self.watched.insert(directory.clone(), watch);
                        is_new = true;
                    }
                }
                if is_new {
                    one.find(&mut found);
                }
                // A path of a cursor is taken up even if nothing is there now: what was, may lie beside it, renamed.
                let known = self.cursors.keys().filter_map(|key| key.strip_prefix(CURSOR_PREFIX)).map(PathBuf::from);
                found.files.extend(known.filter(|path| one.names(path)));
                for path in found.files {
                    all.entry(path).or_insert(Named { section, pattern });
                }
            }
        }
        all
    }

    /// A path as it is before anything is known of it.
    fn not_yet_read(&self, path: &Path, named: Named) -> Followed {
        // Proof: `named` came from these sections, which do not change.
        let section = self.sections.get(named.section);
        let format = section.map(|section| section.format.clone()).unwrap_or_default();
        let start = section.filter(|_| self.is_first).map_or(Start::Beginning, |section| section.config.start);
        Followed::new(path.to_owned(), format, start)
    }

    /// Whether the file under a path is another path's: rotated, and read there.
    fn is_anothers(&self, path: &Path, owners: &Owners) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let owner = owners.get(&(metadata.dev(), metadata.ino())).filter(|owner| *owner != path);
        owner.and_then(|owner| self.followed.get(owner)).is_some_and(|owner| owner.holds(path, &metadata))
    }

    /// Looks at one path that a pattern names.
    fn look(&mut self, path: &Path, named: Named, found: &BTreeMap<PathBuf, Named>, owners: &Owners, out: &mut Vec<Observation>) {
        let mut followed = match self.followed.remove(path) {
            Some(followed) => followed,
            None => match self.copied(path) {
                Some(Copy::Growing) => {
                    self.is_undecided = true;
                    return;
                }
                Some(Copy::Upto(upto)) => {
                    let mut followed = self.not_yet_read(path, named);
                    followed.take_up_copy(upto, out);
                    followed
                }
                None => self.not_yet_read(path, named),
            },
        };
        // Beside a path, the same pattern may name files that were rotated from it while nobody looked.
        let is_others = |other: &Path, metadata: &Metadata| {
            let is_own =
                |by: &Named| *by == named && !self.followed.contains_key(other) && beside::is_numbered_after(path, other);
            owners.contains_key(&(metadata.dev(), metadata.ino())) && self.is_anothers(other, owners)
                || found.get(other).is_some_and(|by| !is_own(by))
        };
        followed.look(&is_others, out);
        self.followed.insert(path.to_owned(), followed);
    }

    /// Whether a new file is a copy of one that is followed and that it is named after.
    fn copied(&self, path: &Path) -> Option<Copy> {
        let mut named_before = self.followed.iter().filter(|(log, _)| beside::is_numbered_after(log, path)).peekable();
        named_before.peek()?;
        let file = beside::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let copy = named_before.find_map(|(_, followed)| followed.copied_by(&file, metadata.len()))?;
        let is_written = || {
            let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok();
            age.map(|age| age < LEAVING_QUIET)
        };
        (copy != Copy::Growing || is_written().unwrap_or(true)).then_some(copy)
    }

    /// Reads every file to its end, a chunk of each in turn.
    fn read_all(&mut self, intake: &Intake, stop: &CancellationToken) -> Result<(), Stopped> {
        let mut more = true;
        while more && !stop.is_cancelled() {
            more = false;
            for followed in self.followed.values_mut() {
                let mut out = Vec::new();
                more |= followed.read(Instant::now(), &mut out);
                send(intake, out)?;
            }
        }
        self.followed.retain(|_, followed| !followed.is_over());
        Ok(())
    }
}

/// A file that is not read for there are too many: what is written to it is not to be known.
fn left_out_gap(path: &Path) -> Observation {
    let now = crate::clock::unix_ns();
    let evidence = format!(
        "sources.file.paths name more than {FILES_MAX} files: {} and others are not read; name fewer, or run more agents",
        path.display()
    );
    tracing::error!(evidence, "files are not followed");
    let loss = Loss { cause: GapCause::SourceOverflow, count: None, exact: false, evidence, from: now, to: now };
    let position = uuid::Uuid::new_v4().to_string();
    Observation { source: SourceName::File, position, time: now, payload: Payload::Loss(loss), cursor: None, answer: None }
}

fn send(intake: &Intake, mut group: Vec<Observation>) -> Result<(), Stopped> {
    while !group.is_empty() {
        let rest = group.split_off(group.len().min(GROUP_MAX));
        intake.send_blocking(std::mem::replace(&mut group, rest))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
