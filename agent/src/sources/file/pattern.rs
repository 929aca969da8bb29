//! Which files a configured path names: `*`, `?` and `[…]` within one component.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::beside::is_compressed;

/// A configured path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(PathBuf);

/// What a pattern names now.
#[derive(Debug, Default)]
pub(super) struct Matches {
    pub(super) files: BTreeSet<PathBuf>,
    /// Directories whose changes may change the matches.
    pub(super) directories: BTreeSet<PathBuf>,
}

/// Most files that one agent follows: each costs a descriptor and a watch.
pub(super) const FILES_MAX: usize = if cfg!(test) { 8 } else { 1024 };

impl Pattern {
    /// `None` unless absolute and without `..`.
    pub(super) fn new(path: &str) -> Option<Self> {
        let path = PathBuf::from(path);
        let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        (path.is_absolute() && plain && path.file_name().is_some()).then_some(Self(path))
    }

    /// Whether the pattern names this path, be it there or not.
    pub(super) fn names(&self, path: &Path) -> bool {
        let (pattern, path) = (self.0.components(), path.components());
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(pattern, part)| {
                let (pattern, part) = (pattern.as_os_str().as_encoded_bytes(), part.as_os_str().as_encoded_bytes());
                pattern == part || matches(pattern, part)
            })
    }

    pub(super) fn find(&self, found: &mut Matches) {
        let components: Vec<&str> = self.0.components().filter_map(|part| part.as_os_str().to_str()).skip(1).collect();
        descend(Path::new("/"), &components, found);
    }
}

fn descend(at: &Path, rest: &[&str], found: &mut Matches) {
    let Some((component, deeper)) = rest.split_first() else { return };
    let is_wild = component.contains(['*', '?', '[']);
    if !is_wild {
        let next = at.join(component);
        if deeper.is_empty() {
            found.directories.insert(at.to_owned());
            take(next, found);
        } else if next.is_dir() {
            descend(&next, deeper, found);
        } else {
            found.directories.insert(at.to_owned());
        }
        return;
    }
    found.directories.insert(at.to_owned());
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| matches(component.as_bytes(), name.as_bytes())) {
            continue;
        }
        if deeper.is_empty() {
            // What a wildcard finds packed was a log once, and is no lines.
            if !is_compressed(&entry.path()) {
                take(entry.path(), found);
            }
        } else if entry.path().is_dir() {
            descend(&entry.path(), deeper, found);
        }
    }
}

fn take(path: PathBuf, found: &mut Matches) {
    // The file behind a link is rotated where it lies.
    if path.is_symlink()
        && let Some(beside) = path.canonicalize().ok().as_deref().and_then(Path::parent)
    {
        found.directories.insert(beside.to_owned());
    }
    // One more than are followed: that there are more must show.
    if path.is_file() && found.files.len() <= FILES_MAX {
        found.files.insert(path);
    }
}

/// Shell-like matching of one name. A name that begins with a dot is matched by a literal dot only.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut at, mut in_name) = (0, 0);
    // Where to go on from when a literal fails: after the last `*`, one byte of the name further.
    let mut retry: Option<(usize, usize)> = None;
    while in_name < name.len() {
        let step = match (pattern.get(at), name.get(in_name)) {
            (Some(b'*'), _) => {
                retry = Some((at + 1, in_name));
                at += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(at + 1),
            (Some(b'['), Some(byte)) => class(pattern, at, *byte),
            (Some(literal), Some(byte)) if literal == byte => Some(at + 1),
            _ => None,
        };
        match (step, retry) {
            (Some(next), _) => {
                at = next;
                in_name += 1;
            }
            (None, Some((star, from))) => {
                retry = Some((star, from + 1));
                (at, in_name) = (star, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Where the pattern goes on after the class at `open`, if it holds `byte`. An unclosed class matches nothing.
fn class(pattern: &[u8], open: usize, byte: u8) -> Option<usize> {
    let length = pattern.get(open + 1..)?.iter().skip(1).position(|b| *b == b']')? + 1;
    let set = pattern.get(open + 1..open + 1 + length)?;
    let (negated, set) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut holds = set.contains(&byte);
    for range in set.windows(3) {
        if let [low, b'-', high] = range {
            holds |= (*low..=*high).contains(&byte);
        }
    }
    (holds != negated).then_some(open + length + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", "a.json.1", false),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("app-?.log", "app-1.log", true),
            ("app-?.log", "app-12.log", false),
            ("app-[0-9].log", "app-7.log", true),
            ("app-[!0-9].log", "app-7.log", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn wild_components_are_found_and_their_directories_watched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("app.json"), "").unwrap();
        }
        let mut found = Matches::default();
        Pattern::new(dir.path().join("*/app.json").to_str().unwrap()).unwrap().find(&mut found);
        assert_eq!(found.files.len(), 2);
        assert!(found.directories.contains(dir.path()) && found.directories.contains(&dir.path().join("a")));
        let mut found = Matches::default();
        Pattern::new(dir.path().join("no/app.json").to_str().unwrap()).unwrap().find(&mut found);
        assert!(found.files.is_empty() && found.directories.contains(dir.path()), "where it may come to be is watched");
        let pattern = Pattern::new("/var/log/*/app.json").unwrap();
        assert!(pattern.names(Path::new("/var/log/x/app.json")) && !pattern.names(Path::new("/var/log/app.json")));
        assert_eq!(Pattern::new("relative.json"), None);
        assert_eq!(Pattern::new("/var/../etc/x"), None);
    }

    proptest! {
        #[test]
        fn matching_ends_and_never_panics(pattern in "[a*?\\[\\]!-]{0,12}", name in "[a-b.]{0,12}") {
            let _either = matches(pattern.as_bytes(), name.as_bytes());
        }
    }
}
