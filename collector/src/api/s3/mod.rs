//! The S3 face: directory trails as read-only buckets, so that `aws cloudtrail validate-logs` and every reader of
//! CloudTrail files works with no S3 anywhere.
//!
//! A bucket is the bucket of a directory trail; its account reads all of it, others what is theirs ([`share`]). Both path style
//! (`/bucket/key`) and virtual-host style (`bucket.host`) are understood. Nothing is ever written here. Keys are names of
//! objects, never paths: what the sink does not take as a key does not exist.

mod address;
mod listing;
mod object;
mod share;

use axum::response::Response;
use edgetrail_proto::record::Resource;
use edgetrail_sigv4::percent;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Map, Value};

use self::address::{Address, addressed};
use self::share::Share;
use super::Api;
use super::authority::Wanted;
use super::caller::Caller;
use super::dispatch::Answered;
use super::event::Event;
use super::fault::{Fault, Protocol};
use super::reply;
use super::xml::Document;
use crate::control::TrailConfig;
use crate::sinks::{Directory, Sink, SinkConfig, SinkError};

const SOURCE: &str = "s3.amazonaws.com";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Objects in memory at once, in MiB; the largest one may have 256. Log files have less than 1.
pub(super) const OBJECT_MEMORY_MIB: usize = 512;

/// Query parameters that make a request another one. Only `location` is answered.
const SUBRESOURCES: [&str; 24] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "retention",
    "tagging",
    "versioning",
    "website",
];

/// One bucket and the trail it is of.
#[derive(Clone, Debug)]
struct Bucket {
    trail: TrailConfig,
    directory: Directory,
    share: Share,
}

/// What S3 calls the operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    ListBuckets,
    HeadBucket,
    GetBucketLocation,
    ListObjects,
    ListObjectsV2,
    GetObject,
    HeadObject,
    Unsupported,
}

pub(super) async fn answer(api: &Api, head: &Parts, caller: &Caller) -> Answered {
    let names = match bucket_names(api) {
        Ok(names) => names,
        Err(fault) => return Answered::new(presumed_event(head), Err(fault)),
    };
    let address = addressed(head, &names);
    let operation = Operation::of(head, &address);
    let event = operation.event(head, &address, caller);
    let result = run(api, head, caller, &address, operation).await;
    Answered::new(event, result)
}

/// For a request that was refused before anything of it was believed.
pub(super) fn presumed_event(head: &Parts) -> Event {
    let address = addressed(head, &[]);
    let operation = Operation::of(head, &address);
    let read_only = matches!(head.method, http::Method::GET | http::Method::HEAD);
    Event { data: operation.is_of_objects(), ..Event::new(SOURCE, operation.name(), read_only) }
}

/// What every write gets.
pub(super) fn read_only() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "the buckets here are read-only: trails alone write to them")
}

async fn run(api: &Api, head: &Parts, caller: &Caller, address: &Address, operation: Operation) -> Result<Response, Fault> {
    caller.may(&operation.wanted(head, address, caller), Protocol::S3)?;
    if operation == Operation::ListBuckets {
        return list_buckets(api, caller);
    }
    let bucket = Bucket::find(api, caller, &address.bucket)?;
    match operation {
        Operation::ListObjects | Operation::ListObjectsV2 => {
            let query = head.uri.query().unwrap_or_default();
            bucket.share.check(&percent::value_of(query, "prefix").unwrap_or_default())?;
        }
        Operation::HeadObject | Operation::GetObject => bucket.share.check(&address.key)?,
        Operation::ListBuckets | Operation::HeadBucket | Operation::GetBucketLocation | Operation::Unsupported => {}
    }
    match operation {
        Operation::GetBucketLocation => Ok(location(&bucket)),
        Operation::HeadBucket => Ok(object::region_reply(&bucket.trail.home_region)),
        Operation::ListObjects => listing::answer(&bucket, head, listing::Version::One).await,
        Operation::ListObjectsV2 => listing::answer(&bucket, head, listing::Version::Two).await,
        Operation::HeadObject => object::head(&bucket, &address.key).await,
        Operation::GetObject => object::get(&bucket, &address.key, head, &api.0.object_memory).await,
        Operation::Unsupported | Operation::ListBuckets => Err(Fault::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "this bucket answers GetBucketLocation, ListObjects, GetObject and HeadObject",
        )),
    }
}

fn list_buckets(api: &Api, caller: &Caller) -> Result<Response, Fault> {
    let mut document = Document::new("ListAllMyBucketsResult", Some(NAMESPACE));
    document.begin("Owner").element("ID", caller.account.as_str()).end().begin("Buckets");
    let mut listed: Vec<String> = Vec::new();
    for trail in directory_trails(api)? {
        if trail.account == caller.account.as_str() && !listed.contains(&trail.bucket) {
            let created = edgetrail_proto::record::format_time(trail.created_ns);
            document.begin("Bucket").element("Name", &trail.bucket).element("CreationDate", &created).end();
            listed.push(trail.bucket);
        }
    }
    Ok(reply::s3_xml(document))
}

/// Empty for us-east-1, as S3 has it.
fn location(bucket: &Bucket) -> Response {
    let mut document = Document::new("LocationConstraint", Some(NAMESPACE));
    if bucket.trail.home_region != "us-east-1" {
        document.text(&bucket.trail.home_region);
    }
    reply::s3_xml(document)
}

fn directory_trails(api: &Api) -> Result<Vec<TrailConfig>, Fault> {
    let trails = api.parts().control.trails().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the trails cannot be read");
        Fault::internal(Protocol::S3)
    })?;
    Ok(trails.into_iter().filter(|trail| matches!(trail.sink, SinkConfig::Directory { .. })).collect())
}

fn bucket_names(api: &Api) -> Result<Vec<String>, Fault> {
    Ok(directory_trails(api)?.into_iter().map(|trail| trail.bucket).collect())
}

impl Bucket {
    fn find(api: &Api, caller: &Caller, name: &str) -> Result<Self, Fault> {
        let mut trails = directory_trails(api)?;
        trails.retain(|trail| trail.bucket == name);
        let missing = || Fault::new(StatusCode::NOT_FOUND, "NoSuchBucket", "no directory trail has this bucket");
        // One's own first: of it one sees all.
        trails.sort_by_key(|trail| trail.account != caller.account.as_str());
        let trail = trails.into_iter().next().ok_or_else(missing)?;
        let share = Share::of(&trail, &caller.account);
        match Sink::open(&trail.sink, &trail.bucket, None) {
            Ok(Sink::Directory(directory)) => Ok(Self { trail, directory, share }),
            Ok(_) => Err(missing()),
            Err(error) => Err(sink_fault(&error)),
        }
    }
}

/// What is no key, is no object.
fn sink_fault(error: &SinkError) -> Fault {
    match error {
        SinkError::BadKey { .. } => object::no_such_key(),
        SinkError::TooLarge { .. } => Fault::new(StatusCode::BAD_REQUEST, "EntityTooLarge", error.to_string()),
        _ => {
            tracing::error!(error = error as &dyn std::error::Error, "an object cannot be read");
            Fault::internal(Protocol::S3)
        }
    }
}

impl Operation {
    fn of(head: &Parts, address: &Address) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let has = |name: &str| percent::pairs(query).any(|(found, _)| found == name.as_bytes());
        let is_head = head.method == http::Method::HEAD;
        let other = SUBRESOURCES.iter().any(|name| has(name))
            || has("uploads")
            || has("uploadId")
            || has("versions")
            || has("attributes");
        match (address.bucket.is_empty(), address.key.is_empty()) {
            (true, _) => Self::ListBuckets,
            (false, true) if has("location") => Self::GetBucketLocation,
            _ if other => Self::Unsupported,
            (false, true) if is_head => Self::HeadBucket,
            (false, true) if percent::value_of(query, "list-type").as_deref() == Some("2") => Self::ListObjectsV2,
            (false, true) => Self::ListObjects,
            (false, false) if is_head => Self::HeadObject,
            (false, false) => Self::GetObject,
        }
    }

    /// As S3's own records name it.
    fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::HeadBucket => "HeadBucket",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::ListObjects | Self::ListObjectsV2 => "ListObjects",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::Unsupported => "UnsupportedOperation",
        }
    }

    /// What policies are asked. Source: Service Authorization Reference, Amazon S3.
    fn wanted(self, head: &Parts, address: &Address, caller: &Caller) -> Wanted {
        let bucket = format!("arn:{}:s3:::{}", caller.partition, address.bucket);
        let (action, resource) = match self {
            Self::ListBuckets => ("s3:ListAllMyBuckets", "*".to_owned()),
            Self::HeadBucket | Self::ListObjects | Self::ListObjectsV2 => ("s3:ListBucket", bucket),
            Self::GetBucketLocation => ("s3:GetBucketLocation", bucket),
            Self::GetObject | Self::HeadObject => ("s3:GetObject", format!("{bucket}/{}", address.key)),
            // Whatever it is, it is about the bucket; those who may see it are told that it is not answered.
            Self::Unsupported => ("s3:ListBucket", bucket),
        };
        let query = head.uri.query().unwrap_or_default();
        let details = [("s3:prefix", "prefix"), ("s3:delimiter", "delimiter"), ("s3:max-keys", "max-keys")];
        let details = details.into_iter().filter_map(|(key, name)| Some((key, percent::value_of(query, name)?))).collect();
        Wanted { action: action.to_owned(), resources: vec![resource], details }
    }

    fn is_of_objects(self) -> bool {
        matches!(self, Self::ListObjects | Self::ListObjectsV2 | Self::GetObject | Self::HeadObject)
    }

    fn event(self, head: &Parts, address: &Address, caller: &Caller) -> Event {
        let mut parameters = Map::new();
        let mut resources = Vec::new();
        let resource = |kind: &str, arn: String, account: Option<&str>| Resource {
            account_id: account.map(str::to_owned),
            kind: Some(kind.to_owned()),
            arn: Some(arn),
            ..Resource::default()
        };
        if !address.bucket.is_empty() {
            let bucket_arn = format!("arn:{}:s3:::{}", caller.partition, address.bucket);
            parameters.insert("bucketName".to_owned(), address.bucket.clone().into());
            if !address.key.is_empty() {
                parameters.insert("key".to_owned(), address.key.clone().into());
                resources.push(resource("AWS::S3::Object", format!("{bucket_arn}/{}", address.key), None));
            }
            resources.push(resource("AWS::S3::Bucket", bucket_arn, Some(caller.account.as_str())));
        }
        let query = head.uri.query().unwrap_or_default();
        for name in ["prefix", "delimiter", "marker", "start-after", "list-type", "max-keys"] {
            parameters.extend(percent::value_of(query, name).map(|value| (name.to_owned(), Value::from(value))));
        }
        Event {
            data: self.is_of_objects(),
            parameters: (!parameters.is_empty()).then_some(Value::Object(parameters)),
            resources,
            ..Event::new(SOURCE, self.name(), true)
        }
    }
}
