//! Objects of a delivered trail, damaged at random: every damage is reported, or it changes nothing that anybody reads.
//!
//! One seed, one damage. `EDGETRAIL_SEEDS` says how many are tried, `EDGETRAIL_SEED` replays one. What counts as harmless is
//! decided from the bytes alone, never by the verifier's own word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgetrail_tests::rng::Rng;
use edgetrail_tests::seeds;
use edgetrail_verify::gzip::unpack;
use edgetrail_verify::report::{Check, Report};
use edgetrail_verify::store::Store;
use edgetrail_verify::trail::verify;

use super::trail::{Hooks, Trail};
use super::{Silent, WHOLE};

/// Tried in `make test`, within half a minute.
const SEEDS_SHORT: u64 = 200;

const SIDECAR: &str = ".meta.json";

/// Every file below the trail's folder, by path.
type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone, Copy, Debug)]
enum Damage {
    BitFlip,
    ByteRange,
    Truncation,
    Swap,
    StaleCopy,
    Deletion,
    ExtraObject,
    JunkBehind,
}

const DAMAGES: [Damage; 8] = [
    Damage::BitFlip,
    Damage::ByteRange,
    Damage::Truncation,
    Damage::Swap,
    Damage::StaleCopy,
    Damage::Deletion,
    Damage::ExtraObject,
    Damage::JunkBehind,
];

fn is_sidecar(path: &Path) -> bool {
    path.to_string_lossy().ends_with(SIDECAR)
}

/// Digest, log file or proof.
fn kind(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    match () {
        () if text.contains("/CloudTrail-Digest/") => "digest",
        () if text.contains("/CloudTrail-Proof/") => "proof",
        () => "log file",
    }
}

/// What a damage does to the files; empty where it does nothing.
fn damaged(damage: Damage, files: &Files, random: &mut Rng) -> (PathBuf, BTreeMap<PathBuf, Option<Vec<u8>>>) {
    // Metadata of log files and proofs is all alike and read by nobody: one case in eight is enough.
    let with_all = random.below(8) == 0;
    let read = |path: &&PathBuf| with_all || !is_sidecar(path) || kind(path) == "digest";
    let paths: Vec<&PathBuf> = files.keys().filter(read).collect();
    let at = paths[random.below(paths.len())].clone();
    let mut bytes = files[&at].clone();
    let alike: Vec<&PathBuf> = paths
        .iter()
        .filter(|path| is_sidecar(path) == is_sidecar(&at) && kind(path) == kind(&at) && **path != &at)
        .copied()
        .collect();
    let mut changes = BTreeMap::new();
    match damage {
        Damage::BitFlip => {
            let bit = random.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::ByteRange => {
            let from = random.below(bytes.len());
            let to = (from + 1 + random.below(64)).min(bytes.len());
            bytes[from..to].iter_mut().for_each(|byte| *byte = (random.number() & 0xff) as u8);
        }
        Damage::Truncation => bytes.truncate(random.below(bytes.len())),
        Damage::Swap => {
            let other = alike[random.below(alike.len())];
            changes.insert(other.clone(), Some(bytes));
            bytes = files[other].clone();
        }
        // With its metadata, as a copy is made.
        Damage::StaleCopy => {
            let older = alike[random.below(alike.len())];
            bytes = files[older].clone();
            if !is_sidecar(&at) {
                let sidecar = |path: &Path| PathBuf::from(format!("{}{SIDECAR}", path.display()));
                changes.insert(sidecar(&at), files.get(&sidecar(older)).cloned());
            }
        }
        Damage::Deletion => {
            changes.insert(at.clone(), None);
            return (at, changes);
        }
        Damage::ExtraObject => {
            let name = at.display().to_string();
            let minute = random.below(10);
            let fresh = name.replace("T120", &format!("T12{minute}")).replace("AAAAAA", "CCCCCC");
            changes.insert(PathBuf::from(fresh), Some(bytes));
            return (at, changes);
        }
        Damage::JunkBehind => bytes.extend((0..1 + random.below(40)).map(|_| (random.number() & 0xff) as u8)),
    }
    changes.insert(at.clone(), Some(bytes));
    (at, changes)
}

/// What a reader of the trail gets of a file: its unpacked bytes, or its metadata.
#[derive(Debug, PartialEq)]
enum Meaning {
    Object {
        unpacked: Option<Vec<u8>>,
        trailing: usize,
    },
    Signature(Option<Vec<u8>>),
    /// A log file's or proof's metadata says nothing that is relied on.
    Nothing,
}

fn meaning(path: &Path, bytes: &[u8]) -> Meaning {
    if !is_sidecar(path) {
        let unpacked = unpack(bytes).ok();
        let trailing = unpacked.as_ref().map_or(0, |unpacked| unpacked.trailing);
        return Meaning::Object { unpacked: unpacked.map(|unpacked| unpacked.bytes), trailing };
    }
    if kind(path) != "digest" {
        return Meaning::Nothing;
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    // Names in any case, as HTTP headers have them.
    let metadata = json.as_ref().and_then(|json| json["Metadata"].as_object());
    let signature = metadata.into_iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case("signature"));
    Meaning::Signature(signature.and_then(|(_, value)| value.as_str().and_then(|text| hex::decode(text).ok())))
}

/// The class of a harmless damage; `None` where it is not.
fn harmless(before: &Files, changes: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Option<&'static str> {
    let mut class = "the same bytes";
    for (path, after) in changes {
        let same_bytes = before.get(path) == after.as_ref();
        if same_bytes {
            continue;
        }
        let was = before.get(path).map(|bytes| meaning(path, bytes));
        let is = after.as_ref().map(|bytes| meaning(path, bytes));
        class = match (was, is) {
            (Some(Meaning::Nothing) | None, Some(Meaning::Nothing) | None) if is_sidecar(path) => {
                "metadata that nobody relies on"
            }
            (Some(Meaning::Object { .. }), Some(Meaning::Object { .. }))
                if meaning(path, &before[path]) == meaning(path, after.as_ref()?) =>
            {
                "gzip's own header: unpacks to the same bytes"
            }
            (Some(Meaning::Signature(was)), Some(Meaning::Signature(is))) if was == is && was.is_some() => {
                "metadata with the same signature"
            }
            // Metadata of an object that is not there.
            (None, Some(Meaning::Signature(_))) => "metadata of no object",
            _ => return None,
        };
    }
    Some(class)
}

fn read_all(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
            }
        }
    }
    files
}

fn write(changes: &BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for (path, bytes) in changes {
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap_or_default(),
        }
    }
}

#[test]
fn every_damage_to_delivered_objects_is_reported_or_changes_nothing() {
    let trail = Trail::whole().beside(Trail::with(&Hooks { region: "dc-z-1", ..Hooks::default() }));
    let dir = tempfile::tempdir().unwrap();
    trail.write(dir.path());
    let files = read_all(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::directory(dir.path()).unwrap();
    // A trail that can't be read at all is none that passes.
    let passing = || runtime.block_on(verify(&store, &trail.keys, WHOLE, &mut Silent)).ok().filter(Report::is_good);
    assert!(passing().is_some(), "the trail is whole before it is damaged");
    let seeds = seeds::chosen(SEEDS_SHORT);
    let (mut table, mut missed) = (BTreeMap::<String, u64>::new(), Vec::new());
    for seed in seeds.clone() {
        let mut random = Rng::new(seed);
        let damage = DAMAGES[random.below(DAMAGES.len())];
        let (at, changes) = damaged(damage, &files, &mut random);
        write(&changes);
        let said = match (passing(), harmless(&files, &changes)) {
            (None, _) => "reported",
            (Some(_), Some(class)) => class,
            // It may be of the collector's next window: it is named, and once that window's digest is there, unlisted.
            (Some(report), None) if report.count(Check::LogPending) == 1 && changes.len() == 1 => "named as not in a digest yet",
            (Some(_), None) => {
                missed.push(format!("EDGETRAIL_SEED={seed}: {damage:?} of {}", at.display()));
                "MISSED"
            }
        };
        *table.entry(format!("{damage:?}: {said}")).or_default() += 1;
        let restored = changes.keys().map(|path| (path.clone(), files.get(path).cloned())).collect();
        write(&restored);
    }
    println!("seeds {} to {}", seeds.start, seeds.end - 1);
    table.iter().for_each(|(class, count)| println!("{count:>6}  {class}"));
    assert!(missed.is_empty(), "damage that changes the trail was not reported:\n{}", missed.join("\n"));
    assert!(passing().is_some(), "what was damaged was put back");
}
