//! ListObjects, versions 1 and 2: keys in the order of their bytes, folded at a delimiter, paged.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgetrail_sigv4::percent::{self, Slash};
use http::StatusCode;
use http::request::Parts;

use super::object::{etag, iso_time};
use super::{Bucket, NAMESPACE, sink_fault};
use crate::api::fault::Fault;
use crate::api::reply;
use crate::api::xml::Document;
use crate::sinks::{ObjectStat, Sink};

/// Most entries on a page. Source: S3.
const KEYS_MAX: usize = 1000;
/// Sorts behind every other character of a key: what begins with a prefix lies before the prefix followed by this.
const LAST_CHARACTER: char = char::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    prefix: String,
    delimiter: Option<String>,
    max: usize,
    /// Entries begin behind this.
    after: String,
    /// Version 1's marker, version 2's start-after and token, as they came.
    marker: Option<String>,
    start_after: Option<String>,
    token: Option<String>,
    url_encoded: bool,
    with_owner: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listed {
    objects: Vec<ObjectStat>,
    folded: Vec<String>,
    /// The last entry, where there are more.
    more_behind: Option<String>,
}

pub(super) async fn answer(bucket: &Bucket, head: &Parts, version: Version) -> Result<Response, Fault> {
    let asked = Asked::read(head.uri.query().unwrap_or_default(), version)?;
    let sink = Sink::Directory(bucket.directory.clone());
    let listed = list(&sink, &asked).await?;
    Ok(reply::s3_xml(document(bucket, &asked, &listed, version)))
}

impl Asked {
    fn read(query: &str, version: Version) -> Result<Self, Fault> {
        let value = |name: &str| percent::value_of(query, name);
        let invalid = |why: &str| Fault::new(StatusCode::BAD_REQUEST, "InvalidArgument", why);
        let max = match value("max-keys") {
            None => KEYS_MAX,
            Some(text) => text.parse::<usize>().map_err(|_| invalid("max-keys is not a number"))?.min(KEYS_MAX),
        };
        let url_encoded = match value("encoding-type").as_deref() {
            None | Some("") => false,
            Some("url") => true,
            Some(_) => return Err(invalid("encoding-type is `url`")),
        };
        let mut asked = Self {
            prefix: value("prefix").unwrap_or_default(),
            delimiter: value("delimiter").filter(|delimiter| !delimiter.is_empty()),
            max,
            url_encoded,
            ..Self::default()
        };
        match version {
            Version::One => {
                asked.marker = value("marker");
                asked.with_owner = true;
                asked.after = asked.marker.clone().unwrap_or_default();
            }
            Version::Two => {
                asked.start_after = value("start-after");
                asked.token = value("continuation-token");
                asked.with_owner = value("fetch-owner").as_deref() == Some("true");
                let token = asked
                    .token
                    .as_ref()
                    .map(|token| URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()));
                asked.after = match token {
                    Some(Some(after)) => after,
                    Some(None) => return Err(invalid("the continuation token is not valid")),
                    None => asked.start_after.clone().unwrap_or_default(),
                };
            }
        }
        // A page that ended in a folded prefix goes on behind all that it stands for.
        if asked.folded(&asked.after).is_some_and(|folded| folded == asked.after) {
            asked.after.push(LAST_CHARACTER);
        }
        Ok(asked)
    }

    /// The common prefix that stands for this key, if one does.
    fn folded(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let at = rest.find(delimiter)?;
        key.get(..self.prefix.len() + at + delimiter.len()).map(str::to_owned)
    }
}

/// Reads from the sink no more than a page, and skips what a common prefix stands for.
async fn list(sink: &Sink, asked: &Asked) -> Result<Listed, Fault> {
    let mut listed = Listed::default();
    if asked.max == 0 {
        return Ok(listed);
    }
    let mut after = asked.after.clone();
    loop {
        let room = asked.max - listed.objects.len() - listed.folded.len();
        let stats = sink.list(&asked.prefix, &after, room + 1).await.map_err(|error| sink_fault(&error))?;
        let exhausted = stats.len() <= room;
        let mut skipped = false;
        for stat in stats {
            if listed.objects.len() + listed.folded.len() >= asked.max {
                listed.more_behind = last_entry(&listed);
                return Ok(listed);
            }
            if let Some(folded) = asked.folded(&stat.key) {
                after = format!("{folded}{LAST_CHARACTER}");
                listed.folded.push(folded);
                skipped = true;
                break;
            }
            after.clone_from(&stat.key);
            listed.objects.push(stat);
        }
        if exhausted && !skipped {
            return Ok(listed);
        }
    }
}

fn last_entry(listed: &Listed) -> Option<String> {
    let object = listed.objects.last().map(|stat| stat.key.clone());
    object.max(listed.folded.last().cloned())
}

fn document(bucket: &Bucket, asked: &Asked, listed: &Listed, version: Version) -> Document {
    let text = |value: &str| if asked.url_encoded { percent::encode(value.as_bytes(), Slash::Keep) } else { value.to_owned() };
    let optional = |value: &Option<String>| value.as_deref().map(text);
    let mut document = Document::new("ListBucketResult", Some(NAMESPACE));
    document.element("Name", &bucket.trail.bucket).element("Prefix", &text(&asked.prefix));
    match version {
        Version::One => {
            document.element("Marker", &optional(&asked.marker).unwrap_or_default());
            // S3 sends it with a delimiter only; clients go on behind the last key otherwise.
            let next = listed.more_behind.as_deref().filter(|_| asked.delimiter.is_some()).map(text);
            document.optional("NextMarker", next.as_deref());
        }
        Version::Two => {
            document.optional("StartAfter", optional(&asked.start_after).as_deref());
            document.optional("ContinuationToken", asked.token.as_deref());
            let next = listed.more_behind.as_ref().map(|after| URL_SAFE_NO_PAD.encode(after));
            document.optional("NextContinuationToken", next.as_deref());
            document.element("KeyCount", &(listed.objects.len() + listed.folded.len()).to_string());
        }
    }
    document.element("MaxKeys", &asked.max.to_string());
    document.optional("Delimiter", optional(&asked.delimiter).as_deref());
    document.optional("EncodingType", asked.url_encoded.then_some("url"));
    document.element("IsTruncated", if listed.more_behind.is_some() { "true" } else { "false" });
    for stat in &listed.objects {
        document.begin("Contents").element("Key", &text(&stat.key)).element("LastModified", &iso_time(stat.modified));
        document.element("ETag", &etag(stat)).element("Size", &stat.bytes.to_string());
        if asked.with_owner {
            document.begin("Owner").element("ID", &bucket.trail.account).end();
        }
        document.element("StorageClass", "STANDARD").end();
    }
    for folded in &listed.folded {
        document.begin("CommonPrefixes").element("Prefix", &text(folded)).end();
    }
    document
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::sinks::{Directory, ObjectMeta};

    async fn sink(keys: &[String]) -> (tempfile::TempDir, Sink) {
        let dir = tempfile::tempdir().unwrap();
        let sink = Sink::Directory(Directory::new(dir.path(), "b").unwrap());
        for key in keys {
            sink.put_new(key, Bytes::from_static(b"x"), &ObjectMeta::default()).await.unwrap();
        }
        (dir, sink)
    }

    /// Every page until the end: keys and folded prefixes, each in order.
    async fn pages(sink: &Sink, query: &str, version: Version) -> (Vec<String>, Vec<String>, usize) {
        let (mut keys, mut folded, mut count) = (Vec::new(), Vec::new(), 0);
        let mut more = String::new();
        loop {
            let asked = Asked::read(&format!("{query}{more}"), version).unwrap();
            let listed = list(sink, &asked).await.unwrap();
            count += 1;
            assert!(listed.objects.len() + listed.folded.len() <= asked.max);
            keys.extend(listed.objects.iter().map(|stat| stat.key.clone()));
            folded.extend(listed.folded.clone());
            let Some(after) = listed.more_behind else { return (keys, folded, count) };
            more = match version {
                Version::One => format!("&marker={}", percent::encode(after.as_bytes(), Slash::Encode)),
                Version::Two => format!("&continuation-token={}", URL_SAFE_NO_PAD.encode(after)),
            };
        }
    }

    #[tokio::test]
    async fn a_delimiter_folds_and_pages_go_on_behind_the_fold() {
        let keys = ["a/1", "a/2", "a/3", "b", "c/1", "c-1", "d"].map(String::from);
        let (_dir, sink) = sink(&keys).await;
        for version in [Version::One, Version::Two] {
            for max in 1..6 {
                let (keys, folded, _) = pages(&sink, &format!("delimiter=/&max-keys={max}"), version).await;
                assert_eq!(keys, ["b", "c-1", "d"], "{max}");
                assert_eq!(folded, ["a/", "c/"], "{max}");
            }
        }
        let (keys, folded, pages) = pages(&sink, "delimiter=/&prefix=a/&max-keys=3", Version::One).await;
        assert_eq!((keys.len(), folded.len(), pages), (3, 0, 1), "exactly full is not truncated");
    }

    #[test]
    fn bad_parameters_are_refused() {
        for bad in ["max-keys=x", "max-keys=-1", "encoding-type=base64"] {
            assert_eq!(Asked::read(bad, Version::One).unwrap_err().code, "InvalidArgument", "{bad}");
        }
        assert_eq!(Asked::read("continuation-token=%2F%2F", Version::Two).unwrap_err().code, "InvalidArgument");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn pages_are_the_sorted_keys(names in proptest::collection::btree_set("[a-c]{1,2}(/[a-b-]{1,2}){0,2}", 1..12), max in 1_usize..5, prefix in "[a-c]{0,1}") {
            // No key is a folder of another: a directory can't hold both.
            let is_folder = |key: &String| names.iter().any(|other| other.starts_with(&format!("{key}/")));
            let keys: Vec<String> = names.iter().filter(|key| !is_folder(key)).cloned().collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (found, folded, _) = runtime.block_on(async {
                let (_dir, sink) = sink(&keys).await;
                pages(&sink, &format!("prefix={prefix}&max-keys={max}"), Version::Two).await
            });
            let expected: Vec<String> = keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(found, expected);
            prop_assert!(folded.is_empty());
        }
    }
}
