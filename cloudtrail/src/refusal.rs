//! Why a call is refused: the model's code and a text that shows the value and says what would do.
//!
//! The refusals that depend on what is stored or on the world outside are made here, too, so that each text exists once.
//! None of them tells whether a name of another account exists.

use std::fmt::Display;

use edgetrail_proto::identity::{AccountId, Region};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arn::{TrailArn, TrailRef};
use crate::bucket::BucketName;
use crate::name::TrailName;

/// Most characters of a caller's value that a message shows.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// A refusal in the dialect of JSON 1.1: always the caller's fault, HTTP 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// No such trail in reach of the account: there is none, or it is another's.
    pub fn unknown_trail(trail: &TrailRef, account: &AccountId) -> Self {
        Self::new("TrailNotFoundException", format!("Unknown trail: {trail} for the user: {account}"))
    }

    pub fn trail_exists(name: &TrailName, account: &AccountId) -> Self {
        Self::new("TrailAlreadyExistsException", format!("Trail {name} already exists for customer: {account}"))
    }

    /// `trails` is how many the account has.
    pub fn too_many_trails(trails: usize, account: &AccountId, region: &Region) -> Self {
        let message = format!("User: {account} already has {trails} trails in {region}.");
        Self::new("MaximumNumberOfTrailsExceededException", message)
    }

    /// Of the trail that the configuration describes: the next start would bring it back.
    pub fn described_in_configuration(name: &TrailName) -> Self {
        let message = format!("the trail {name} is described in the configuration: remove [trail] there");
        Self::new("OperationNotPermittedException", message)
    }

    /// A trail to be tagged that is not there, or is another account's.
    pub fn unknown_resource(arn: &TrailArn) -> Self {
        Self::new("ResourceNotFoundException", format!("the resource {arn} does not exist"))
    }

    /// Another change of a trail takes too long.
    pub fn busy() -> Self {
        Self::new("ConflictException", "another call changes a trail of this account: try again")
    }

    pub fn no_bucket(bucket: &BucketName) -> Self {
        Self::new("S3BucketDoesNotExistException", format!("S3 bucket {bucket} does not exist!"))
    }

    pub fn bucket_policy(bucket: &BucketName) -> Self {
        Self::new("InsufficientS3BucketPolicyException", format!("Incorrect S3 bucket policy is detected for bucket: {bucket}"))
    }

    pub fn topic_policy() -> Self {
        Self::new("InsufficientSnsTopicPolicyException", "SNS Topic does not exist or the topic policy is incorrect!")
    }

    /// Files of a directory lie under no key.
    pub fn directory_has_no_kms(bucket: &BucketName) -> Self {
        let message = format!(
            "KmsKeyId can't be used with the bucket {bucket}: it is a directory, which has no KMS; encrypt the file system instead"
        );
        Self::new("InvalidParameterCombinationException", message)
    }

    /// A member of another type than the model's.
    pub(crate) fn serialization(why: impl Display) -> Self {
        Self::new("SerializationException", format!("the input is not valid: {}", shown(&why.to_string())))
    }

    /// A constraint of the model for which the operation lists no error.
    pub(crate) fn validation(value: &str, member: &str, constraint: &str) -> Self {
        let message = format!(
            "1 validation error detected: Value '{}' at '{member}' failed to satisfy constraint: {constraint}",
            shown(value)
        );
        Self::new("ValidationException", message)
    }
}

/// Unknown members pass, as at CloudTrail; those of a wrong type do not.
pub(crate) fn read<T: DeserializeOwned>(input: Value) -> Result<T, Refusal> {
    match input {
        Value::Object(_) => serde_json::from_value(input).map_err(Refusal::serialization),
        _ => Err(Refusal::serialization("not an object")),
    }
}

/// A caller's value as a message shows it: bounded, on one line.
pub(crate) fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARACTERS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if value.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_bounded_and_on_one_line() {
        assert_eq!(shown("a\r\nb\u{1b}[31m"), "a??b?[31m");
        assert_eq!(shown(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(shown(&"é".repeat(5000)).chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }
}
