//! What a trail is: everything that decides what it takes, where that goes and how it is described.
//!
//! A definition is a value under a hash: the same members give the same JSON bytes and so the same SHA-256, in every
//! version. It holds no secret and nothing of what the trail has done.

use std::time::Duration;

use edgetrail_proto::facets::{Category, Facets};
use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_proto::keys::TrailPaths;
use edgetrail_proto::selector::Selectors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arn::TrailArn;
use crate::bucket::BucketName;
use crate::coverage::{Coverage, OrgFacts};
use crate::insight::InsightSelector;
use crate::kms_key::KmsKey;
use crate::log_group::LogGroup;
use crate::prefix::Prefix;
use crate::tags::Tags;
use crate::topic::Topic;

/// Members that are added later must be left out of the JSON where they have their default: hashes are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailDefinition {
    pub arn: TrailArn,
    /// Unix nanoseconds. Part of every log file's name, so it never changes.
    pub created_ns: u64,
    pub bucket: BucketName,
    pub prefix: Option<Prefix>,
    /// As the caller named it until KMS has said which key that is; then its ARN.
    pub kms_key: Option<String>,
    pub coverage: Coverage,
    pub multi_region: bool,
    /// Whether records of services without a region are taken.
    pub include_global: bool,
    /// Whether records of what delivery itself does are taken.
    pub recursive: bool,
    /// Whether digests are made.
    pub validation: bool,
    pub topic: Option<Topic>,
    pub log_group: Option<LogGroup>,
    pub selectors: Selectors,
    /// Whether the selectors were ever set.
    pub custom_selectors: bool,
    pub insights: Vec<InsightSelector>,
    pub tags: Tags,
    pub cadence: Cadence,
    /// How long files stay; `None` is for ever.
    pub retention: Option<FileRetention>,
}

/// When files and digests are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cadence {
    /// A log file is closed after this long, or at `log_bytes` uncompressed.
    pub log_interval: Duration,
    pub log_bytes: u64,
    pub digest_interval: Duration,
}

/// What of the delivered log files may go; digests and proofs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRetention {
    /// Files older than this go.
    pub age: Option<Duration>,
    /// The oldest go while there are more bytes than this.
    pub bytes: Option<u64>,
}

/// Where and when a call is made, and by whom.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The caller's.
    pub account: AccountId,
    /// The one that is called.
    pub region: Region,
    pub partition: &'a str,
    /// `None` where there is no organization.
    pub org: Option<&'a OrgFacts>,
    /// Unix nanoseconds.
    pub now_ns: u64,
}

/// Services whose management events are global. Source: CloudTrail user guide, "Global service events".
const GLOBAL_SOURCES: [&str; 3] = ["iam.amazonaws.com", "sts.amazonaws.com", "cloudfront.amazonaws.com"];

/// Where global events are recorded: the region that leads each partition.
const LEADING_REGIONS: [&str; 3] = ["us-east-1", "cn-north-1", "us-gov-west-1"];

/// Who acts, in userIdentity.invokedBy, when log files are delivered.
const DELIVERER: &str = "cloudtrail.amazonaws.com";

impl Default for Cadence {
    /// CloudTrail's own: log files of 5 min or 15 MiB, a digest an hour.
    fn default() -> Self {
        Self {
            log_interval: Duration::from_secs(5 * 60),
            log_bytes: 15 * 1024 * 1024,
            digest_interval: Duration::from_secs(60 * 60),
        }
    }
}

impl TrailDefinition {
    /// Whether a good record is delivered. `org` says whether an account belongs to the trail's organization. A gap
    /// within reach is always taken: no selection hides that events are missing.
    pub fn selects(&self, facets: &Facets, org: &dyn Fn(&str) -> bool) -> bool {
        let covered = match self.coverage {
            Coverage::Account => facets.account == self.arn.account.as_str(),
            Coverage::Organization { .. } => org(&facets.account),
            Coverage::Everything => true,
        };
        let here = self.multi_region || facets.region == self.arn.region.as_str();
        covered && here && (facets.is_gap() || self.wants(facets))
    }

    fn wants(&self, facets: &Facets) -> bool {
        let global = self.include_global || !is_global(facets);
        let delivery = self.recursive || facets.invoked_by.as_deref() != Some(DELIVERER);
        global && delivery && if self.takes_all() { facets.category != Category::Insight } else { self.selectors.selects(facets) }
    }

    /// What reached the ledger was selected by an agent already: the configured trail takes it all until selectors are
    /// set, but insights, which have files of their own kind.
    pub(crate) const fn takes_all(&self) -> bool {
        matches!(self.coverage, Coverage::Everything) && !self.custom_selectors
    }

    pub fn paths(&self) -> TrailPaths {
        let org = match &self.coverage {
            Coverage::Organization { id } => Some(id.clone()),
            Coverage::Account | Coverage::Everything => None,
        };
        TrailPaths { prefix: self.prefix.as_ref().map(|prefix| prefix.as_str().to_owned()), org }
    }

    pub fn home(&self) -> &Region {
        &self.arn.region
    }

    /// `None` where there is none, or where the configuration names it in a way of its own.
    pub fn named_key(&self) -> Option<KmsKey> {
        self.kms_key.as_deref().and_then(|key| KmsKey::parse(key).ok())
    }

    /// The bytes that are hashed and stored.
    pub fn json(&self) -> String {
        // Proof: every member is text, a number, a boolean, or a list or map of those with text for keys.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// SHA-256 of the JSON.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.json()).into()
    }
}

fn is_global(facets: &Facets) -> bool {
    facets.category == Category::Management
        && GLOBAL_SOURCES.contains(&facets.source.as_str())
        && LEADING_REGIONS.contains(&facets.region.as_str())
}
