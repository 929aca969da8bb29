//! Where trails deliver: a directory or S3.
//!
//! Promises of every sink: an object becomes visible whole, with its metadata, or not at all; [`Sink::put_new`] never
//! replaces what lies there; after it returned, the object survives a power cut as far as the sink can promise that.
//! A sink knows nothing of trails: keys and bytes come from outside, and what to do about a conflict is decided there.

mod directory;
#[cfg(test)]
mod double;
mod probe;
mod s3;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use directory::Directory;
#[cfg(test)]
pub use double::{Double, Fault};
pub use s3::{ConditionalPut, Encryption, S3, S3Config};

/// Largest object that is read back whole, in bytes. Source: CloudTrail's limit for a log object, 50 MB; a proof of
/// the most leaf hashes a window may hold is larger.
pub const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a user writes of a sink. Bucket, prefix and KMS key are the trail's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SinkConfig {
    /// The bucket is the first folder below `path`.
    Directory {
        path: PathBuf,
    },
    S3(S3Config),
}

/// A bucket of a store.
#[derive(Clone, Debug)]
pub enum Sink {
    Directory(Directory),
    S3(S3),
    #[cfg(test)]
    Double(Double),
}

/// What is kept beside an object's bytes. Names of user metadata are lower case, without `x-amz-meta-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    #[serde(rename = "ContentType")]
    pub content_type: String,
    #[serde(rename = "ContentEncoding", default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(rename = "Metadata", default)]
    pub metadata: BTreeMap<String, String>,
}

/// How a conditional PUT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Created,
    /// Something lies under this key already; it was left as it is.
    Exists,
}

/// An object read back.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub meta: ObjectMeta,
    pub stat: ObjectStat,
}

/// What a listing and a HEAD tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStat {
    pub key: String,
    pub bytes: u64,
    /// Unix seconds.
    pub modified: u64,
}

/// Why a sink did not do it. [`SinkError::code`] is what GetTrailStatus shows.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("bucket `{bucket}` does not exist: create it, or correct the trail's bucket")]
    NoSuchBucket { bucket: String },
    #[error("access to bucket `{bucket}` is denied: allow s3:PutObject, s3:GetObject and s3:ListBucket to the collector's key")]
    AccessDenied { bucket: String },
    #[error("the store does not accept the collector's credentials: renew them in the configuration or the environment")]
    Credentials {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "bucket `{bucket}` ignores If-None-Match and would overwrite objects: use a store with conditional writes, \
         or set `conditional_put = \"head-first\"` if this collector is its only writer"
    )]
    ConditionalPutIgnored { bucket: String },
    #[error("`{key}` can't be a key: no empty, `.` or `..` component, no control character, at most 1,024 bytes")]
    BadKey { key: String },
    #[error("no space left at {path}: free some, delivery goes on by itself")]
    NoSpace { path: String },
    #[error("object `{key}` is {bytes} bytes long, more than is ever read back")]
    TooLarge { key: String, bytes: u64 },
    #[error("the sink's configuration is not usable")]
    Configuration {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the sink did not do it; it is tried again")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Sink {
    /// `bucket` and `kms_key` are the trail's.
    pub fn open(config: &SinkConfig, bucket: &str, kms_key: Option<&str>) -> Result<Self, SinkError> {
        match config {
            SinkConfig::Directory { path } => Directory::new(path, bucket).map(Self::Directory),
            SinkConfig::S3(config) => S3::new(config, bucket, kms_key).map(Self::S3),
        }
    }

    /// Stores an object unless its key is taken.
    pub async fn put_new(&self, key: &str, bytes: Bytes, meta: &ObjectMeta) -> Result<Put, SinkError> {
        check_key(key)?;
        match self {
            Self::Directory(directory) => directory.put_new(key, bytes, meta).await,
            Self::S3(s3) => s3.put_new(key, bytes, meta).await,
            #[cfg(test)]
            Self::Double(double) => double.put_new(key, bytes, meta).await,
        }
    }

    /// The object, or `None` where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, SinkError> {
        check_key(key)?;
        match self {
            Self::Directory(directory) => directory.get(key).await,
            Self::S3(s3) => s3.get(key).await,
            #[cfg(test)]
            Self::Double(double) => Ok(double.get(key)),
        }
    }

    pub async fn head(&self, key: &str) -> Result<Option<ObjectStat>, SinkError> {
        check_key(key)?;
        match self {
            Self::Directory(directory) => directory.head(key).await,
            Self::S3(s3) => s3.head(key).await,
            #[cfg(test)]
            Self::Double(double) => Ok(double.get(key).map(|object| object.stat)),
        }
    }

    /// At most `max` keys after `start_after` that begin with `prefix`, in the order of their bytes.
    pub async fn list(&self, prefix: &str, start_after: &str, max: usize) -> Result<Vec<ObjectStat>, SinkError> {
        match self {
            Self::Directory(directory) => directory.list(prefix, start_after, max).await,
            Self::S3(s3) => s3.list(prefix, start_after, max).await,
            #[cfg(test)]
            Self::Double(double) => Ok(double.list(prefix, start_after, max)),
        }
    }

    /// Proves that the sink takes objects and refuses the second one under a key. `account` is the trail's.
    pub async fn probe(&self, prefix: Option<&str>, account: &str) -> Result<(), SinkError> {
        probe::prove_conditional_put(self, prefix, account).await
    }
}

impl ObjectMeta {
    /// Of log files, digests and proofs. Source: CloudTrail's own objects.
    pub fn gzipped_json() -> Self {
        let (content_type, content_encoding) = ("application/json".to_owned(), Some("gzip".to_owned()));
        Self { content_type, content_encoding, metadata: BTreeMap::new() }
    }
}

impl SinkError {
    /// A short code, S3's own where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchBucket { .. } => "NoSuchBucket",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::Credentials { .. } => "InvalidAccessKeyId",
            Self::ConditionalPutIgnored { .. } => "ConditionalPutIgnored",
            Self::BadKey { .. } => "InvalidArgument",
            Self::NoSpace { .. } => "NoSpace",
            Self::TooLarge { .. } => "EntityTooLarge",
            Self::Configuration { .. } => "InvalidConfiguration",
            Self::Unavailable { .. } => "ServiceUnavailable",
        }
    }

    /// Whether only a person can end it. It is tried again all the same, less often: the person acts elsewhere.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Unavailable { .. } => false,
            Self::NoSuchBucket { .. }
            | Self::AccessDenied { .. }
            | Self::Credentials { .. }
            | Self::ConditionalPutIgnored { .. }
            | Self::BadKey { .. }
            | Self::NoSpace { .. }
            | Self::TooLarge { .. }
            | Self::Configuration { .. } => true,
        }
    }
}

/// Keys come from the network too (the S3 face): what could leave the bucket's folder is refused for every sink alike.
fn check_key(key: &str) -> Result<(), SinkError> {
    let component = |part: &str| !matches!(part, "" | "." | "..");
    // Source: S3's limit for a key, 1,024 bytes of UTF-8.
    let good = key.len() <= 1024 && key.split('/').all(component) && !key.chars().any(char::is_control);
    if good { Ok(()) } else { Err(SinkError::BadKey { key: key.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_its_bucket() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\0b", "a\nb", &"a".repeat(1025)] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "AWSLogs/1/..x/y", "a b", "ü"] {
            assert!(check_key(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_sink_is_read_from_its_configuration() {
        let text = "kind = \"s3\"\nendpoint = \"http://127.0.0.1:5055\"\nconditional_put = \"head-first\"\n";
        let SinkConfig::S3(s3) = toml::from_str(text).unwrap() else { panic!("not S3") };
        assert_eq!(s3.conditional_put, ConditionalPut::HeadFirst);
        assert_eq!(
            toml::from_str::<SinkConfig>("kind = \"directory\"\npath = \"/d\"\n").unwrap(),
            SinkConfig::Directory { path: "/d".into() }
        );
        assert!(toml::from_str::<SinkConfig>("kind = \"s3\"\nendpont = \"x\"\n").is_err());
    }
}
