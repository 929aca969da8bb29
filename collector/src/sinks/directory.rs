//! A sink in a directory: the bucket is its first folder, metadata lies beside each object as `<name>.meta.json`.
//!
//! An object appears by one atomic step (`renameat2` with RENAME_NOREPLACE, or a hard link where the file system lacks
//! it) that fails if the name is taken: a conditional PUT. Its bytes and its sidecar are on disk before that step, and
//! the folder's entry before `put_new` returns. A crash leaves at most a `.edgetrail-…` file or a sidecar without
//! object; neither is an object, and neither is ever listed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use edgetrail_disk::crash_point;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{OBJECT_BYTES_MAX, Object, ObjectMeta, ObjectStat, Put, SinkError};

/// Ends the name of an object's sidecar.
const SIDECAR: &str = ".meta.json";

/// Begins the name of a file that is not yet an object.
const UNFINISHED: &str = ".edgetrail-";

/// One bucket below a root directory.
#[derive(Clone, Debug)]
pub struct Directory {
    folder: PathBuf,
    bucket: String,
}

/// Tells two unfinished files of one process apart.
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Directory {
    /// Makes the bucket's folder if it is not there.
    pub fn new(root: &Path, bucket: &str) -> Result<Self, SinkError> {
        if bucket.contains('/') {
            return Err(SinkError::BadKey { key: bucket.to_owned() });
        }
        super::check_key(bucket)?;
        let folder = root.join(bucket);
        create_folders(&folder).map_err(|e| sink_error(&folder, e))?;
        Ok(Self { folder, bucket: bucket.to_owned() })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes, meta: &ObjectMeta) -> Result<Put, SinkError> {
        if is_hidden(key) {
            return Err(SinkError::BadKey { key: key.to_owned() });
        }
        let (path, meta) = (self.folder.join(key), meta.clone());
        blocking(move || publish(&path, &bytes, &meta).map_err(|e| sink_error(&path, e))).await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Object>, SinkError> {
        let (path, key) = (self.folder.join(key), key.to_owned());
        blocking(move || {
            let Some(stat) = stat(&path, &key)? else { return Ok(None) };
            if stat.bytes > OBJECT_BYTES_MAX {
                return Err(SinkError::TooLarge { key, bytes: stat.bytes });
            }
            let mut bytes = Vec::new();
            let file = File::open(&path).map_err(|e| sink_error(&path, e))?;
            file.take(OBJECT_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| sink_error(&path, e))?;
            Ok(Some(Object { bytes: bytes.into(), meta: sidecar(&path), stat }))
        })
        .await
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectStat>, SinkError> {
        let (path, key) = (self.folder.join(key), key.to_owned());
        blocking(move || stat(&path, &key)).await
    }

    /// An object's metadata without its bytes.
    pub async fn meta(&self, key: &str) -> Result<ObjectMeta, SinkError> {
        super::check_key(key)?;
        let path = self.folder.join(key);
        blocking(move || Ok(sidecar(&path))).await
    }

    pub(super) async fn list(&self, prefix: &str, start_after: &str, max: usize) -> Result<Vec<ObjectStat>, SinkError> {
        let (folder, prefix, start_after) = (self.folder.clone(), prefix.to_owned(), start_after.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            walk(&folder, "", &prefix, &start_after, max, &mut found).map_err(|e| sink_error(&folder, e))?;
            Ok(found)
        })
        .await
    }
}

/// Writes bytes and sidecar, then makes the object appear in one step.
fn publish(path: &Path, bytes: &[u8], meta: &ObjectMeta) -> io::Result<Put> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_folders(folder)?;
    if path.try_exists()? {
        // It may have been made visible by a run that was cut before its folder was synced.
        sync_folder(folder)?;
        return Ok(Put::Exists);
    }
    let unfinished = write_unfinished(folder, bytes)?;
    let description = write_unfinished(folder, &serde_json::to_vec(meta)?)?;
    fs::rename(&description, sidecar_path(path))?;
    crash_point("collector/directory-before-rename");
    // Until here a crash leaves no object. From here on it leaves the whole object with its metadata.
    let put = match renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Put::Created,
        Err(Errno::EXIST) => Put::Exists,
        // The file system knows no RENAME_NOREPLACE: a hard link refuses an existing name as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::hard_link(&unfinished, path) {
            Ok(()) => Put::Created,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Put::Exists,
            Err(e) => return Err(e),
        },
        Err(errno) => return Err(errno.into()),
    };
    crash_point("collector/directory-renamed");
    if let Err(error) = fs::remove_file(&unfinished)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    sync_folder(folder)?;
    // From here on a crash recovers to the object being there.
    Ok(put)
}

fn write_unfinished(folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{UNFINISHED}{}-{serial}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(path)
}

/// Makes missing folders and syncs the parent of each, so that the way to an object is as durable as the object.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Depth first, names in the order of the whole keys' bytes: a folder sorts as its name with `/` behind it.
fn walk(folder: &Path, above: &str, prefix: &str, start_after: &str, max: usize, found: &mut Vec<ObjectStat>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_folder = entry.file_type()?.is_dir();
        if !is_hidden(&name) {
            names.push(if is_folder { format!("{name}/") } else { name });
        }
    }
    names.sort_unstable();
    for name in names {
        if found.len() >= max {
            break;
        }
        let key = format!("{above}{name}");
        if key.ends_with('/') {
            let may_match = key.starts_with(prefix) || prefix.starts_with(&key);
            let passed = key.as_str() < start_after && !start_after.starts_with(&key);
            if may_match && !passed {
                walk(&folder.join(name.trim_end_matches('/')), &key, prefix, start_after, max, found)?;
            }
        } else if key.starts_with(prefix)
            && key.as_str() > start_after
            && let Ok(metadata) = fs::metadata(folder.join(&name))
        {
            found.push(ObjectStat { bytes: metadata.len(), modified: modified(&metadata), key });
        }
    }
    Ok(())
}

fn stat(path: &Path, key: &str) -> Result<Option<ObjectStat>, SinkError> {
    if is_hidden(key) {
        return Ok(None);
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            Ok(Some(ObjectStat { key: key.to_owned(), bytes: metadata.len(), modified: modified(&metadata) }))
        }
        Ok(_) => Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(sink_error(path, e)),
    }
}

fn modified(metadata: &fs::Metadata) -> u64 {
    u64::try_from(metadata.mtime()).unwrap_or(0)
}

/// A missing or damaged sidecar is no metadata: verification then says what is missing.
fn sidecar(path: &Path) -> ObjectMeta {
    let read = fs::read(sidecar_path(path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.unwrap_or_else(|| ObjectMeta { content_type: "binary/octet-stream".to_owned(), ..ObjectMeta::default() })
}

fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(SIDECAR);
    path.with_file_name(name)
}

fn is_hidden(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.ends_with(SIDECAR) || name.starts_with(UNFINISHED)
}

fn sink_error(path: &Path, error: io::Error) -> SinkError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SinkError::NoSpace { path: path.display().to_string() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            SinkError::AccessDenied { bucket: path.display().to_string() }
        }
        _ => SinkError::Unavailable { source: Box::new(error) },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, SinkError> + Send + 'static) -> Result<T, SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(SinkError::Unavailable { source: Box::new(join) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ObjectMeta {
        ObjectMeta {
            content_type: "application/json".into(),
            content_encoding: Some("gzip".into()),
            metadata: [("signature".to_owned(), "ab".to_owned())].into(),
        }
    }

    #[tokio::test]
    async fn the_second_put_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Directory::new(dir.path(), "bucket").unwrap();
        assert_eq!(sink.put_new("a/b/c.json.gz", Bytes::from_static(b"one"), &meta()).await.unwrap(), Put::Created);
        let other = ObjectMeta::default();
        assert_eq!(sink.put_new("a/b/c.json.gz", Bytes::from_static(b"two"), &other).await.unwrap(), Put::Exists);
        let object = sink.get("a/b/c.json.gz").await.unwrap().unwrap();
        assert_eq!((object.bytes.as_ref(), object.meta), (&b"one"[..], meta()));
        let raw: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("bucket/a/b/c.json.gz.meta.json")).unwrap()).unwrap();
        assert_eq!(raw["Metadata"]["signature"], "ab");
        assert_eq!(raw["ContentEncoding"], "gzip");
    }

    #[tokio::test]
    async fn leftovers_of_a_crash_are_no_objects() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Directory::new(dir.path(), "bucket").unwrap();
        let folder = dir.path().join("bucket/a");
        fs::create_dir_all(&folder).unwrap();
        write_unfinished(&folder, b"half").unwrap();
        fs::write(folder.join("x.gz.meta.json"), b"{}").unwrap();
        assert_eq!(sink.list("", "", 10).await.unwrap(), []);
        assert!(sink.get("a/x.gz").await.unwrap().is_none());
        assert!(sink.head("a/x.gz.meta.json").await.unwrap().is_none());
        assert_eq!(sink.put_new("a/x.gz", Bytes::from_static(b"whole"), &meta()).await.unwrap(), Put::Created);
        assert_eq!(sink.get("a/x.gz").await.unwrap().unwrap().meta, meta());
    }

    #[tokio::test]
    async fn a_listing_is_in_the_order_of_keys_and_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Directory::new(dir.path(), "bucket").unwrap();
        let mut keys = ["a/b/1", "a/b/2", "a/b-c/1", "a/b.x", "a/bb", "b"].map(String::from);
        for key in &keys {
            sink.put_new(key, Bytes::new(), &meta()).await.unwrap();
        }
        keys.sort_unstable();
        let names = |stats: Vec<ObjectStat>| stats.into_iter().map(|s| s.key).collect::<Vec<_>>();
        assert_eq!(names(sink.list("", "", 100).await.unwrap()), keys);
        for at in 0..keys.len() {
            assert_eq!(names(sink.list("", &keys[at], 100).await.unwrap()), keys[at + 1..], "after {}", keys[at]);
        }
        assert_eq!(names(sink.list("a/b/", "", 1).await.unwrap()), ["a/b/1"]);
        assert_eq!(names(sink.list("a/b", "a/b/1", 100).await.unwrap()).len(), 2);
    }

    #[tokio::test]
    async fn a_missing_folder_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Directory::new(dir.path(), "bucket").unwrap();
        fs::remove_dir(dir.path().join("bucket")).unwrap();
        assert_eq!(sink.put_new("k", Bytes::new(), &meta()).await.unwrap(), Put::Created);
    }
}
