//! The files beside a path that rotation left there, told by their names, and whether one is the file of a place.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::place::Place;

/// Whether the file is the one of a place.
pub(super) fn is_at(place: &Place, path: &Path, metadata: &Metadata) -> bool {
    (metadata.dev(), metadata.ino()) == (place.device, place.inode)
        && metadata.len() >= place.offset
        && open(path).is_ok_and(|file| place.head.begins(&file))
}

pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["gz", "xz", "zst", "bz2"].iter().any(|known| end == *known))
}

/// Whether rotation would name a file of the path so: `app.json.1`, `app.json-20260101`, `app-2026-01-01T00-00-00.json`.
pub(super) fn is_rotated(path: &Path, other: &Path) -> bool {
    let (name, other) = (name(path), name(other));
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    other.strip_prefix(name).is_some_and(is_set_off) || other.strip_prefix(stem).is_some_and(is_numbered)
}

/// Whether a name is the path's with a number or time behind it, or within: what no log of its own is named beside it.
pub(super) fn is_numbered_after(path: &Path, other: &Path) -> bool {
    path.parent() == other.parent() && name(other).strip_prefix(name(path)).is_some_and(is_numbered)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_set_off(rest: &str) -> bool {
    rest.starts_with(['.', '-', '_', '~'])
}

fn is_numbered(rest: &str) -> bool {
    is_set_off(rest) && rest.chars().nth(1).is_some_and(|first| first.is_ascii_digit())
}

/// A regular file, opened without waiting for a writer should it be a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

/// Where the file lies that a link leads to: rotation renames it there.
pub(super) fn real(path: &Path) -> PathBuf {
    let target = || Some(path.parent()?.join(std::fs::read_link(path).ok()?));
    path.canonicalize().ok().or_else(target).unwrap_or_else(|| path.to_owned())
}

/// The path's file and those beside it that rotation named after it.
pub(super) fn siblings(path: &Path) -> Vec<(PathBuf, Metadata)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let named_alike = |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|other| other.starts_with(stem));
    let with_metadata = |entry: std::fs::DirEntry| std::fs::metadata(entry.path()).ok().map(|metadata| (entry.path(), metadata));
    entries.flatten().filter(named_alike).filter_map(with_metadata).filter(|(_, metadata)| metadata.is_file()).collect()
}

/// Where the line begins that is being written at the file's end.
pub(super) fn last_line_start(file: &File, length: u64) -> u64 {
    let window = length.min(64 * 1024);
    let from = length - window;
    let mut bytes = vec![0; usize::try_from(window).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, from) {
        Ok(()) => memchr::memrchr(b'\n', &bytes).map_or(if from == 0 { 0 } else { length }, |at| from + at as u64 + 1),
        Err(_) => length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_are_told_from_other_logs() {
        let path = Path::new("/var/log/app.json");
        for (other, rotated, numbered) in [
            ("/var/log/app.json.1", true, true),
            ("/var/log/app.json-20260101", true, true),
            ("/var/log/app.json.old", true, false),
            ("/var/log/app-2026-01-01T00-00-00.json", true, false),
            ("/var/log/app_errors.json", false, false),
            ("/var/log/app.jsonl", false, false),
            ("/var/log/app.json", false, false),
        ] {
            assert_eq!(is_rotated(path, Path::new(other)), rotated, "{other}");
            assert_eq!(is_numbered_after(path, Path::new(other)), numbered, "{other}");
        }
        assert!(!is_numbered_after(path, Path::new("/elsewhere/app.json.1")));
    }
}
