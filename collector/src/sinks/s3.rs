//! A sink in S3 or a store that speaks its protocol.
//!
//! Objects are created with `If-None-Match: *`. Errors are told apart by who can end them: the store itself (tried
//! again), or a person (bucket, permission, credentials).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use serde::{Deserialize, Serialize};

use super::{OBJECT_BYTES_MAX, Object, ObjectMeta, ObjectStat, Put, SinkError};

/// How long one call may try by itself; the trail's own backoff takes over after that, and its status tells.
const TRY_TIME_MAX: Duration = Duration::from_secs(20);

/// What a user writes of an S3 sink. What is absent comes from the environment (`AWS_…`) or the instance's role.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Of another store than AWS's: `https://minio.example:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// `https://bucket.host/key` instead of `https://host/bucket/key`.
    pub virtual_hosted: bool,
    pub encryption: Encryption,
    pub conditional_put: ConditionalPut,
}

/// Who encrypts at rest. A trail's KMS key wins over `sse-s3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// `x-amz-server-side-encryption: AES256`, as CloudTrail's default.
    #[default]
    SseS3,
    /// No header: the bucket's own default holds. For stores that refuse the header.
    BucketDefault,
}

/// What keeps an object from being overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionalPut {
    /// The store, by `If-None-Match`. Proven at start.
    #[default]
    Required,
    /// The collector looks first. Safe only while it is the bucket's one writer.
    HeadFirst,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    store: AmazonS3,
    bucket: String,
    conditional_put: ConditionalPut,
}

impl S3 {
    pub fn new(config: &S3Config, bucket: &str, kms_key: Option<&str>) -> Result<Self, SinkError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(config.virtual_hosted)
            .with_disable_tagging(true)
            .with_retry(RetryConfig { max_retries: 3, retry_timeout: TRY_TIME_MAX, backoff: BackoffConfig::default() });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let texts = [
            (AmazonS3ConfigKey::Region, &config.region),
            (AmazonS3ConfigKey::AccessKeyId, &config.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &config.secret_access_key),
            (AmazonS3ConfigKey::Token, &config.session_token),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                builder = builder.with_config(key, text);
            }
        }
        builder = match (kms_key, config.encryption) {
            (Some(key), _) => builder.with_sse_kms_encryption(key),
            (None, Encryption::SseS3) => {
                let header = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>().map_err(configuration)?;
                builder.with_config(header, "AES256")
            }
            (None, Encryption::BucketDefault) => builder,
        };
        let store = builder.build().map_err(configuration)?;
        Ok(Self { store, bucket: bucket.to_owned(), conditional_put: config.conditional_put })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes, meta: &ObjectMeta) -> Result<Put, SinkError> {
        let mode = match self.conditional_put {
            ConditionalPut::Required => PutMode::Create,
            ConditionalPut::HeadFirst if self.head(key).await?.is_some() => return Ok(Put::Exists),
            ConditionalPut::HeadFirst => PutMode::Overwrite,
        };
        let options = PutOptions { mode, attributes: attributes(meta), ..PutOptions::default() };
        match self.store.put_opts(&path(key)?, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Exists),
            Err(error) => Err(self.sink_error(error)),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Object>, SinkError> {
        let result = match self.store.get(&path(key)?).await {
            Ok(result) => result,
            Err(error) => return self.absent_or(error),
        };
        if result.meta.size > OBJECT_BYTES_MAX {
            return Err(SinkError::TooLarge { key: key.to_owned(), bytes: result.meta.size });
        }
        let (meta, stat) = (object_meta(&result.attributes), stat(&result.meta));
        let bytes = result.bytes().await.map_err(|e| self.sink_error(e))?;
        Ok(Some(Object { bytes, meta, stat }))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectStat>, SinkError> {
        match self.store.head(&path(key)?).await {
            Ok(meta) => Ok(Some(stat(&meta))),
            Err(error) => self.absent_or(error),
        }
    }

    pub(super) async fn list(&self, prefix: &str, start_after: &str, max: usize) -> Result<Vec<ObjectStat>, SinkError> {
        // The store lists whole folders: what of the prefix is behind the last `/` is matched here.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (folder, start_after) = (Path::from(folder), Path::from(start_after));
        let mut stream = self.store.list_with_offset(Some(&folder), &start_after);
        let mut found = Vec::new();
        while found.len() < max
            && let Some(meta) = stream.try_next().await.map_err(|e| self.sink_error(e))?
        {
            if meta.location.as_ref().starts_with(prefix) {
                found.push(stat(&meta));
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn absent_or<T>(&self, error: object_store::Error) -> Result<Option<T>, SinkError> {
        match self.sink_error(error) {
            SinkError::Unavailable { source } if matches!(source.downcast_ref(), Some(object_store::Error::NotFound { .. })) => {
                Ok(None)
            }
            error => Err(error),
        }
    }

    fn sink_error(&self, error: object_store::Error) -> SinkError {
        let bucket = self.bucket.clone();
        let said = said(&error);
        if said.contains("NoSuchBucket") {
            return SinkError::NoSuchBucket { bucket };
        }
        // Source: S3's error codes for a signature that is not, or no longer, accepted.
        let of_credentials =
            ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired"];
        if of_credentials.iter().any(|code| said.contains(code)) {
            return SinkError::Credentials { source: Box::new(error) };
        }
        match error {
            object_store::Error::PermissionDenied { .. } => SinkError::AccessDenied { bucket },
            object_store::Error::Unauthenticated { .. } => SinkError::Credentials { source: Box::new(error) },
            other => SinkError::Unavailable { source: Box::new(other) },
        }
    }
}

/// The whole chain's text: the store's own code stands in the innermost error.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn path(key: &str) -> Result<Path, SinkError> {
    Path::parse(key).map_err(|_| SinkError::BadKey { key: key.to_owned() })
}

fn attributes(meta: &ObjectMeta) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, meta.content_type.clone().into());
    if let Some(encoding) = &meta.content_encoding {
        attributes.insert(Attribute::ContentEncoding, encoding.clone().into());
    }
    for (name, value) in &meta.metadata {
        attributes.insert(Attribute::Metadata(Cow::Owned(name.clone())), value.clone().into());
    }
    attributes
}

fn object_meta(attributes: &Attributes) -> ObjectMeta {
    let mut meta = ObjectMeta::default();
    for (attribute, value) in attributes {
        let value = value.to_string();
        match attribute {
            Attribute::ContentType => meta.content_type = value,
            Attribute::ContentEncoding => meta.content_encoding = Some(value),
            Attribute::Metadata(name) => drop(meta.metadata.insert(name.to_ascii_lowercase(), value)),
            _ => {}
        }
    }
    meta
}

fn stat(meta: &object_store::ObjectMeta) -> ObjectStat {
    ObjectStat {
        key: meta.location.to_string(),
        bytes: meta.size,
        modified: u64::try_from(meta.last_modified.timestamp()).unwrap_or(0),
    }
}

fn configuration(error: object_store::Error) -> SinkError {
    SinkError::Configuration { source: Box::new(error) }
}

impl std::fmt::Debug for S3Config {
    /// Secrets are never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "…"))
            .field("encryption", &self.encryption)
            .field("conditional_put", &self.conditional_put)
            .finish_non_exhaustive()
    }
}
