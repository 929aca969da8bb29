//! Where the trail's objects lie: a directory, or S3. Read only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::{Attribute, ObjectStore, ObjectStoreExt};
use serde::Deserialize;

/// Largest object that is read, in bytes: CloudTrail's 50 MB limit for log files, and room for proofs.
pub const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// An object's place: bucket and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub bucket: String,
    pub key: String,
}

/// An object's bytes and its user metadata, names in lower case.
#[derive(Debug)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} is not a directory: give the folder that holds the bucket's folder")]
    NoDirectory(PathBuf),
    #[error("`{0}` is not of the form s3://BUCKET[/PREFIX]")]
    Url(String),
    #[error("{place} is larger than {OBJECT_BYTES_MAX} bytes")]
    TooLarge { place: Place },
    #[error("{place} can't be read: check permissions")]
    Directory {
        place: Place,
        #[source]
        cause: std::io::Error,
    },
    #[error("the bucket can't be read: check its name, AWS_ENDPOINT_URL_S3, AWS_REGION and the credentials")]
    S3(#[source] object_store::Error),
}

/// A read-only view of the trail's objects.
#[derive(Debug)]
pub enum Store {
    /// The folder whose first folders are buckets.
    Directory(PathBuf),
    S3 {
        bucket: String,
        prefix: Option<String>,
        client: Box<dyn ObjectStore>,
    },
}

/// Lies beside each object of a directory trail as `<name>.meta.json`.
#[derive(Deserialize)]
struct Sidecar {
    #[serde(rename = "Metadata", default)]
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

impl Store {
    pub fn directory(dir: &Path) -> Result<Self, StoreError> {
        if dir.is_dir() { Ok(Self::Directory(dir.to_owned())) } else { Err(StoreError::NoDirectory(dir.to_owned())) }
    }

    /// `s3://BUCKET[/PREFIX]`; credentials, region and endpoint come from the usual AWS_… variables.
    pub fn s3(url: &str) -> Result<Self, StoreError> {
        let path = url.strip_prefix("s3://").filter(|path| !path.is_empty()).ok_or_else(|| StoreError::Url(url.to_owned()))?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let prefix = Some(prefix.trim_matches('/').to_owned()).filter(|prefix| !prefix.is_empty());
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL")) {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain).with_virtual_hosted_style_request(false);
        }
        let client = Box::new(builder.build().map_err(StoreError::S3)?);
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix, client })
    }

    /// Every object, sorted by place. Folder markers and metadata files are not objects.
    pub async fn list(&self) -> Result<Vec<Place>, StoreError> {
        let mut places = match self {
            Self::Directory(root) => list_directory(root)?,
            Self::S3 { bucket, prefix, client } => {
                let prefix = prefix.as_deref().map(object_store::path::Path::from);
                let all = client.list(prefix.as_ref()).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await;
                let place = |key| Place { bucket: bucket.clone(), key };
                all.map_err(StoreError::S3)?.into_iter().map(place).collect()
            }
        };
        places.sort();
        Ok(places)
    }

    /// `None` when there is no such object.
    pub async fn get(&self, place: &Place) -> Result<Option<Object>, StoreError> {
        match self {
            Self::Directory(root) => get_from_directory(root, place),
            Self::S3 { bucket, .. } if *bucket != place.bucket => Ok(None),
            Self::S3 { client, .. } => {
                let result = match client.get(&object_store::path::Path::from(place.key.as_str())).await {
                    Ok(result) => result,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(StoreError::S3(error)),
                };
                if result.meta.size > OBJECT_BYTES_MAX {
                    return Err(StoreError::TooLarge { place: place.clone() });
                }
                let metadata = result
                    .attributes
                    .iter()
                    .filter_map(|(name, value)| match name {
                        Attribute::Metadata(name) => Some((name.to_ascii_lowercase(), value.to_string())),
                        _ => None,
                    })
                    .collect();
                let bytes = result.bytes().await.map_err(StoreError::S3)?.to_vec();
                Ok(Some(Object { bytes, metadata }))
            }
        }
    }
}

fn list_directory(root: &Path) -> Result<Vec<Place>, StoreError> {
    let mut places = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |cause| {
            let place = Place { bucket: folder.display().to_string(), key: String::new() };
            StoreError::Directory { place, cause }
        };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            let metadata_or_unfinished =
                relative.ends_with(".meta.json") || relative.rsplit('/').next().is_some_and(|n| n.starts_with('.'));
            if let (Some((bucket, key)), false) = (relative.split_once('/'), metadata_or_unfinished) {
                places.push(Place { bucket: bucket.to_owned(), key: key.to_owned() });
            }
        }
    }
    Ok(places)
}

fn get_from_directory(root: &Path, place: &Place) -> Result<Option<Object>, StoreError> {
    // A key comes out of a digest, which an attacker may have written: it must not lead out of the directory.
    if place.key.split('/').chain([place.bucket.as_str()]).any(|part| part.is_empty() || part == ".." || part == ".") {
        return Ok(None);
    }
    let path = root.join(&place.bucket).join(&place.key);
    let unreadable = |cause| StoreError::Directory { place: place.clone(), cause };
    let size = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if size > OBJECT_BYTES_MAX {
        return Err(StoreError::TooLarge { place: place.clone() });
    }
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    let mut sidecar = path.into_os_string();
    sidecar.push(".meta.json");
    let metadata = match std::fs::read(sidecar) {
        // Metadata that can't be read is as good as none: the signature is then missing, which is a finding.
        Ok(json) => {
            let sidecar = std::str::from_utf8(&json).ok().and_then(|json| serde_json::from_str::<Sidecar>(json).ok());
            sidecar.map(|sidecar| sidecar.metadata).unwrap_or_default()
        }
        Err(_) => BTreeMap::new(),
    };
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    Ok(Some(Object { bytes, metadata }))
}
