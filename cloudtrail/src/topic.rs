//! The SNS topic that is told of each file.

use edgetrail_proto::identity::{AccountId, Region};
use serde::{Deserialize, Serialize};

use crate::arn::Parts;
use crate::refusal::{Refusal, shown};

/// Longest topic name, in characters. Source: SNS, CreateTopic.
const NAME_CHARACTERS_MAX: usize = 256;

/// A topic as the caller named it, and whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// A name or an ARN.
    pub name: String,
    /// `arn:PARTITION:sns:REGION:ACCOUNT:NAME`; a bare name is one of the trail's own account and home region.
    pub arn: String,
}

impl Topic {
    pub fn parse(text: &str, partition: &str, region: &Region, account: &AccountId) -> Result<Self, Refusal> {
        let arn = if text.starts_with("arn:") {
            let of_topic = |parts: &Parts<'_>| parts.service == "sns" && parts.place().is_some() && is_name(parts.resource);
            Parts::of(text).filter(of_topic).map(|_| text.to_owned())
        } else {
            is_name(text).then(|| format!("arn:{partition}:sns:{region}:{account}:{text}"))
        };
        let refused = || {
            let message = format!(
                "`{}` is not a topic: give 1 to 256 letters, numbers, hyphens and underscores, or arn:PARTITION:sns:REGION:ACCOUNT:NAME",
                shown(text)
            );
            Refusal::new("InvalidSnsTopicNameException", message)
        };
        Ok(Self { name: text.to_owned(), arn: arn.ok_or_else(refused)? })
    }
}

fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(good)
}
