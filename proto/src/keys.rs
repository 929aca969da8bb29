//! Object keys of a trail: `[prefix/]AWSLogs/[o-ID/]ACCOUNT/KIND/REGION/YYYY/MM/DD/FILE`.
//!
//! Readers take accounts, regions, kinds and times from keys by fixed patterns: every character counts. A log file's
//! name holds the minute of its delivery, a digest's and a proof's the second of its digestEndTime.

use sha2::{Digest, Sha256};

use crate::record::{format_time, parse_time};

/// Where a trail's objects lie within its bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailPaths {
    /// At most 200 characters, no slash at either end.
    pub prefix: Option<String>,
    /// `o-…` of an organization's trail.
    pub org: Option<String>,
}

/// What a file holds: the third folder below `AWSLogs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Management and data events.
    Log,
    Insight,
    NetworkActivity,
    Digest,
    Proof,
}

/// A key taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKey {
    pub paths: TrailPaths,
    pub account: String,
    pub kind: Kind,
    pub region: String,
    /// Unix nanoseconds of the time in the name.
    pub time: u64,
    pub name: Name,
}

/// What the file's name says beside account, kind, region and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A log file: sixteen characters that no other file of the trail has.
    Unique(String),
    /// A digest or proof: the trail and the trail's home region.
    Trail { trail: String, home_region: String },
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "CloudTrail",
            Self::Insight => "CloudTrail-Insight",
            Self::NetworkActivity => "CloudTrail-NetworkActivity",
            Self::Digest => "CloudTrail-Digest",
            Self::Proof => "CloudTrail-Proof",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Log, Self::Insight, Self::NetworkActivity, Self::Digest, Self::Proof]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Ends the key of the object by which a collector proves that its store refuses to overwrite. It holds no records:
/// readers pass over it.
const PROBE: &str = "edgetrail/conditional-put-probe";

/// Whether the key is [`TrailPaths::probe_key`]'s.
pub fn is_probe(key: &str) -> bool {
    key.strip_suffix(PROBE).is_some_and(|above| above.starts_with("AWSLogs/") || above.contains("/AWSLogs/"))
}

impl TrailPaths {
    /// Where the store's conditional write is tried, beside the folders of the account's kinds.
    pub fn probe_key(&self, account: &str) -> String {
        let prefix = self.prefix.as_deref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        format!("{prefix}AWSLogs/{account}/{PROBE}")
    }

    /// A log file's key; `time` is that of its delivery, Unix nanoseconds.
    pub fn log_file_key(&self, account: &str, region: &str, time: u64, unique: &str) -> String {
        self.log_key(Kind::Log, account, region, time, unique)
    }

    /// The same for any kind of log: [`Kind::Log`], [`Kind::Insight`], [`Kind::NetworkActivity`].
    pub fn log_key(&self, kind: Kind, account: &str, region: &str, time: u64, unique: &str) -> String {
        let stamp = stamp(time);
        // YYYYMMDDTHHMM, without the seconds.
        let minute = stamp.get(..13).unwrap_or_default();
        let folder = self.folder(kind, account, region, time);
        format!("{folder}{account}_{}_{region}_{minute}Z_{unique}.json.gz", kind.as_str())
    }

    /// A digest's key; `end_time` is its digestEndTime, Unix nanoseconds.
    pub fn digest_key(&self, account: &str, region: &str, trail: &str, home_region: &str, end_time: u64) -> String {
        self.trail_key(Kind::Digest, account, region, trail, home_region, end_time)
    }

    /// The key of the proof file that belongs to the digest of the same `end_time`.
    pub fn proof_key(&self, account: &str, region: &str, trail: &str, home_region: &str, end_time: u64) -> String {
        self.trail_key(Kind::Proof, account, region, trail, home_region, end_time)
    }

    /// The folder of all objects of one kind, account and region, with its closing slash.
    pub fn region_folder(&self, kind: Kind, account: &str, region: &str) -> String {
        let folder = |part: &Option<String>| part.as_deref().filter(|part| !part.is_empty()).map(|part| format!("{part}/"));
        let (prefix, org) = (folder(&self.prefix).unwrap_or_default(), folder(&self.org).unwrap_or_default());
        format!("{prefix}AWSLogs/{org}{account}/{}/{region}/", kind.as_str())
    }

    fn trail_key(&self, kind: Kind, account: &str, region: &str, trail: &str, home_region: &str, time: u64) -> String {
        let folder = self.folder(kind, account, region, time);
        format!("{folder}{account}_{}_{region}_{trail}_{home_region}_{}.json.gz", kind.as_str(), stamp(time))
    }

    fn folder(&self, kind: Kind, account: &str, region: &str, time: u64) -> String {
        let date = format_time(time);
        format!("{}{}/", self.region_folder(kind, account, region), date.get(..10).unwrap_or_default().replace('-', "/"))
    }
}

impl ObjectKey {
    /// Takes apart a key that this module makes; `None` for any other, also where folder and name disagree.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.rsplit('/');
        let file = parts.next()?;
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        let region = parts.next()?;
        let kind = Kind::parse(parts.next()?)?;
        let account = parts.next()?;
        let above = parts.next()?;
        let org = (above != "AWSLogs").then(|| above.to_owned());
        if org.is_some() && parts.next()? != "AWSLogs" {
            return None;
        }
        let mut prefix: Vec<&str> = parts.collect();
        prefix.reverse();
        let prefix = (!prefix.is_empty()).then(|| prefix.join("/"));

        let start = format!("{account}_{}_{region}_", kind.as_str());
        let rest = file.strip_prefix(&start)?.strip_suffix(".json.gz")?;
        let (name, time) = match kind {
            Kind::Log | Kind::Insight | Kind::NetworkActivity => {
                let (minute, unique) = rest.split_once('_')?;
                (Name::Unique(unique.to_owned()), time_of_stamp(&format!("{}00Z", minute.strip_suffix('Z')?))?)
            }
            Kind::Digest | Kind::Proof => {
                let (trail, stamp) = rest.rsplit_once('_')?;
                let (trail, home_region) = trail.rsplit_once('_')?;
                (Name::Trail { trail: trail.to_owned(), home_region: home_region.to_owned() }, time_of_stamp(stamp)?)
            }
        };
        let parsed =
            Self { paths: TrailPaths { prefix, org }, account: account.to_owned(), kind, region: region.to_owned(), time, name };
        let dated = format_time(time).starts_with(&format!("{year}-{month}-{day}T"));
        (dated && parsed.to_key() == key).then_some(parsed)
    }

    /// The key again.
    pub fn to_key(&self) -> String {
        match &self.name {
            Name::Unique(unique) => self.paths.log_key(self.kind, &self.account, &self.region, self.time, unique),
            Name::Trail { trail, home_region } => {
                self.paths.trail_key(self.kind, &self.account, &self.region, trail, home_region, self.time)
            }
        }
    }
}

/// `YYYYMMDDTHHMMSSZ`.
fn stamp(time: u64) -> String {
    format_time(time).replace(['-', ':'], "")
}

fn time_of_stamp(stamp: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| stamp.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, rest) = (part(9..11)?, part(11..13)?, stamp.get(13..)?);
    if stamp.get(8..9)? != "T" {
        return None;
    }
    parse_time(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}"))
}

/// The sixteen characters of a log file's name: six of the trail, ten of the trail's counter, base32hex, so that
/// later files of one trail sort behind earlier ones.
///
/// `created` is the trail's creation time, Unix nanoseconds. The counter's lower 50 bits count.
pub fn unique16(trail_arn: &str, created: u64, counter: u64) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
    let mut hasher = Sha256::new();
    hasher.update(trail_arn.as_bytes());
    hasher.update(created.to_be_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.finalize());
    let first_30_bits = u64::from(u32::from_be_bytes([a, b, c, d]) >> 2);
    let character = |bits: u64, place: u32| {
        // The lowest byte, of which five bits are an index below 32.
        let [.., byte] = (bits >> (5 * place)).to_be_bytes();
        char::from(ALPHABET[usize::from(byte & 31)])
    };
    let trail = (0..6).rev().map(|place| character(first_30_bits, place));
    let count = (0..10).rev().map(|place| character(counter, place));
    trail.chain(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: u64 = 1_714_596_960_000_000_000;

    fn paths(prefix: Option<&str>, org: Option<&str>) -> TrailPaths {
        TrailPaths { prefix: prefix.map(str::to_owned), org: org.map(str::to_owned) }
    }

    #[test]
    fn keys_are_cloudtrails() {
        assert_eq!(
            paths(None, None).log_file_key("111122223333", "dc-local-1", TIME, "A6kvhMoVeCsc7v8U"),
            "AWSLogs/111122223333/CloudTrail/dc-local-1/2024/05/01/111122223333_CloudTrail_dc-local-1_20240501T2056Z_A6kvhMoVeCsc7v8U.json.gz"
        );
        assert_eq!(
            paths(Some("a/b"), Some("o-x")).digest_key(
                "111122223333",
                "dc-local-1",
                "my_trail",
                "dc-home-1",
                TIME + 1_000_000_000
            ),
            "a/b/AWSLogs/o-x/111122223333/CloudTrail-Digest/dc-local-1/2024/05/01/111122223333_CloudTrail-Digest_dc-local-1_my_trail_dc-home-1_20240501T205601Z.json.gz"
        );
    }

    #[test]
    fn every_kind_is_taken_apart_again() {
        for paths in [paths(None, None), paths(Some("AWSLogs/x"), None), paths(Some("p"), Some("o-1"))] {
            let log = paths.log_key(Kind::Insight, "111122223333", "r", TIME, "0123456789ABCDEF");
            let parsed = ObjectKey::parse(&log).unwrap();
            assert_eq!((parsed.kind, parsed.time, &parsed.paths), (Kind::Insight, TIME, &paths));
            let proof = paths.proof_key("111122223333", "r", "t_1", "h-1", TIME + 7_000_000_000);
            let parsed = ObjectKey::parse(&proof).unwrap();
            assert_eq!(parsed.name, Name::Trail { trail: "t_1".to_owned(), home_region: "h-1".to_owned() });
            assert_eq!(parsed.to_key(), proof);
        }
    }

    #[test]
    fn the_probe_is_known_by_its_key() {
        assert!(is_probe(&paths(Some("a/b"), None).probe_key("111122223333")) && is_probe(&paths(None, None).probe_key("1")));
        assert!(!is_probe("edgetrail/conditional-put-probe") && !is_probe("AWSLogs/1/edgetrail/conditional-put-probe.json.gz"));
    }

    #[test]
    fn a_key_in_the_wrong_folder_is_none() {
        let key = paths(None, None).log_file_key("111122223333", "r", TIME, "0123456789ABCDEF");
        assert!(ObjectKey::parse(&key.replace("2024/05/01", "2024/05/02")).is_none());
        assert!(ObjectKey::parse(&key.replacen("111122223333", "111122223334", 1)).is_none());
    }

    #[test]
    fn unique_parts_of_one_trail_sort_by_counter() {
        let names: Vec<String> =
            [0, 1, 31, 32, 1 << 40].map(|n| unique16("arn:aws:cloudtrail:r:111122223333:trail/t", 1, n)).into();
        assert!(names.is_sorted() && names.iter().all(|name| name.len() == 16), "{names:?}");
        assert_ne!(unique16("a", 1, 0)[..6], unique16("a", 2, 0)[..6]);
    }

    proptest! {
        #[test]
        fn no_key_panics(key in "([a-zA-Z0-9_/.-]|\\PC)*") {
            let _ = ObjectKey::parse(&key);
        }
    }
}
