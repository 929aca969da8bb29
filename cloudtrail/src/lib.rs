//! CloudTrail's trail operations, without any I/O: what a request says, what it makes of a trail, how that is answered.
//!
//! A request is parsed (`CreateTrail::parse` …), applied to what the trail was (`create`, `update`, `put_selectors` …)
//! and gives the whole new [`TrailDefinition`], or a [`Refusal`] with a code of the service model. Nothing here stores,
//! asks a bucket or reads a clock: [`Place`] carries what the call brings, [`outside_checks`] says what is left to ask.
//!
//! A value of a type here is valid, since it is made only by parsing. Every refusal's code stands in the model's list of
//! its operation, but for the two that all operations of the protocol share.

mod refusal;

mod name;

mod arn;

mod bucket;

mod prefix;

mod topic;

mod kms_key;

mod log_group;

mod tags;

mod coverage;

mod insight;

mod definition;

mod request;

mod create;

mod update;

mod selectors_request;

mod change;

mod describe;

pub use arn::{ResourceArn, TrailArn, TrailRef};
pub use bucket::BucketName;
pub use change::{Check, Cut, changeable, cut, outside_checks};
pub use coverage::{Coverage, OrgFacts};
pub use create::{CreateTrail, create};
pub use definition::{Cadence, FileRetention, Place, TrailDefinition};
pub use describe::{DescribeTrails, listed, tags_listed};
pub use insight::{GetInsightSelectors, InsightCategory, InsightSelector, InsightType, PutInsights, put_insights};
pub use kms_key::KmsKey;
pub use log_group::LogGroup;
pub use name::TrailName;
pub use prefix::Prefix;
pub use refusal::Refusal;
pub use request::{Request, trail_named, trail_named_in_selectors};
pub use selectors_request::{PutSelectors, put_selectors};
pub use tags::{ListTags, TagChange, Tags, add_tags, remove_tags};
pub use topic::Topic;
pub use update::{UpdateTrail, update};
