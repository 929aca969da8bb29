//! Other projects' inputs, and what they expect of them: every file of its kind in `../shared/data` beside the workspace
//! (or `EDGETRAIL_SHARED_DATA`), whichever are there. Without the data a test says so and skips.
//!
//! Each test prints the marks of each file and holds the share of them that the product promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod auth;
mod events;
mod fields;
mod made;

use std::path::{Path, PathBuf};

/// A folder of the shared data.
fn folder(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("EDGETRAIL_SHARED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is not there; set EDGETRAIL_SHARED_DATA", folder.display());
    None
}

/// Files of a folder whose names end so, sorted.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(end));
    files.sort();
    files
}

/// The same file with another end: `a.log` of `a.log.golden`.
fn beside(file: &Path, end: &str, other: &str) -> PathBuf {
    let path = file.to_string_lossy();
    PathBuf::from(format!("{}{other}", path.strip_suffix(end).unwrap()))
}

fn read(path: impl AsRef<Path>) -> String {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Marks reached of marks there are; shows each that was missed.
#[derive(Default)]
struct Score {
    equal: usize,
    all: usize,
}

impl Score {
    fn compare(&mut self, place: &str, key: &str, expected: &str, ours: Option<String>) {
        let is_equal = ours.as_deref() == Some(expected);
        self.mark(is_equal, || format!("{place}: {key}: expected {expected:?}, ours {ours:?}"));
    }

    fn mark(&mut self, is_right: bool, missed: impl FnOnce() -> String) {
        self.all += 1;
        if is_right {
            self.equal += 1;
        } else {
            println!("  missed: {}", missed());
        }
    }

    fn show(&self, what: &str) {
        let permille = (self.equal * 1000).checked_div(self.all).unwrap_or(1000);
        println!("{what:<44} {:>5} of {:>5} marks {:>4}.{} %", self.equal, self.all, permille / 10, permille % 10);
    }

    /// Holds the promise: this many of a hundred marks.
    fn hold(&self, what: &str, percent: usize) {
        self.show(what);
        assert!(self.all > 0, "{what}: nothing was compared");
        assert!(self.equal * 100 >= self.all * percent, "{what}: {} of {} marks, {percent} % are promised", self.equal, self.all);
    }
}
