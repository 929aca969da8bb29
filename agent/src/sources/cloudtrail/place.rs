//! Where log files lie. A [`Place`] names what is there and reads it; it never says that something is missing because it
//! could not be asked.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::document::DOCUMENT_BYTES_MAX;
use crate::sources::watch::Watch;

/// A directory or a bucket, as the follower's thread uses it: every call may block.
pub(super) trait Place: Send {
    /// What every file's path begins with.
    fn root(&self) -> &Path;

    /// Log files and digests, but for those that `is_done` names.
    fn list(&mut self, is_done: &dyn Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>>;

    fn read(&self, path: &Path) -> io::Result<Content>;

    /// Whether what is under a name may be a part of what its writer is about to write.
    fn may_grow(&self) -> bool {
        true
    }

    /// An object under the key that a digest gives it.
    fn object(&self, key: &str) -> io::Result<Content>;

    /// The signature that is kept beside a digest.
    fn signature(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Until there may be something new, the time is over or the source is to stop.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

/// What is under a name.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// More than any log file has.
    TooLarge,
    Gone,
}

/// A folder of this host, watched.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    watch: Watch,
    watched: HashSet<PathBuf>,
}

/// Folders below the directory that are looked into: a bucket's keys have nine levels.
const DEPTH_MAX: usize = 16;

/// Most files that are looked at in one folder at once.
const FILES_MAX: usize = 1_000_000;

impl Directory {
    pub(super) fn new(root: &Path, watch: Watch) -> Self {
        Self { root: root.to_owned(), watch, watched: HashSet::new() }
    }

    fn list_folder(&mut self, folder: &Path, depth: usize, is_done: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) {
        // Folders are watched before they are listed: no file falls between.
        if !self.watched.contains(folder) && self.watch.tree(folder).is_ok() {
            self.watched.insert(folder.to_owned());
        }
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten().take(FILES_MAX) {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => self.list_folder(&path, depth - 1, is_done, files),
                Ok(kind) if kind.is_file() && is_wanted(&path) && !is_done(&path) => files.push(path),
                _ => {}
            }
        }
    }
}

impl Place for Directory {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&mut self, is_done: &dyn Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let root = self.root.clone();
        self.list_folder(&root, DEPTH_MAX, is_done, &mut files);
        Ok(files)
    }

    /// What can't be read is as if it were not there: the file of the next look may be.
    fn read(&self, path: &Path) -> io::Result<Content> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > DOCUMENT_BYTES_MAX => Ok(Content::TooLarge),
            _ => Ok(std::fs::read(path).map_or(Content::Gone, Content::Bytes)),
        }
    }

    fn object(&self, key: &str) -> io::Result<Content> {
        locate(&self.root, key).map_or(Ok(Content::Gone), |path| self.read(&path))
    }

    /// Beside a directory trail's digest: `NAME.meta.json`.
    fn signature(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let mut name = path.as_os_str().to_owned();
        name.push(".meta.json");
        let signature = || {
            let meta: Value = serde_json::from_slice(&std::fs::read(PathBuf::from(name)).ok()?).ok()?;
            hex::decode(meta.get("Metadata")?.get("signature")?.as_str()?).ok()
        };
        Ok(signature())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.watch.wait(timeout).map(drop)
    }
}

/// Log files and digests by their names; not what lies beside them.
pub(super) fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_named = (name.ends_with(".json.gz") || name.ends_with(".json")) && !name.ends_with(".meta.json");
    is_named && !name.starts_with('.') && is_of_cloudtrail(path)
}

/// A bucket may hold other services' deliveries: `AWSLogs/ACCOUNT/Config/…`. Proofs are no log files.
fn is_of_cloudtrail(path: &Path) -> bool {
    let parts = || path.components().filter_map(|part| part.as_os_str().to_str());
    let is_own = |part: &str| part.starts_with("CloudTrail") && part != "CloudTrail-Proof";
    // Within `AWSLogs` a service's folder stands behind the account's, or behind the organization's and that.
    let mut behind = parts().skip_while(|part| *part != "AWSLogs").skip(1).peekable();
    let is_delivered = behind.by_ref().find(|part| !is_account(part));
    match is_delivered {
        Some(service) if behind.peek().is_some() => is_own(service),
        _ => !parts().any(|part| part == "CloudTrail-Proof"),
    }
}

/// `111122223333` or an organization's `o-abc`.
fn is_account(part: &str) -> bool {
    part.starts_with("o-") || part.bytes().all(|byte| byte.is_ascii_digit())
}

/// An object below the root, whether the root is the bucket, a prefix of it or `AWSLogs` itself.
fn locate(root: &Path, key: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = key.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return None;
    }
    (0..parts.len()).find_map(|skipped| {
        let path = root.join(parts.get(skipped..)?.join("/"));
        let plain = path.with_extension("");
        [path, plain].into_iter().find(|path| path.is_file())
    })
}
