//! How a caller names a KMS key. Which key an id or alias means, only KMS knows.

use crate::arn::Parts;
use crate::refusal::{Refusal, shown};

/// Longest alias behind `alias/`, in characters. Source: KMS, CreateAlias: 256 with the prefix.
const ALIAS_CHARACTERS_MAX: usize = 250;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmsKey {
    /// A UUID, or `mrk-` and 32 hexadecimal digits for one of several regions.
    Id(String),
    Arn(String),
    /// With its `alias/`.
    Alias(String),
    AliasArn(String),
}

impl KmsKey {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let of_kms = Parts::of(text).filter(|parts| parts.service == "kms" && parts.place().is_some());
        let key = match of_kms {
            Some(parts) if parts.resource.strip_prefix("key/").is_some_and(is_id) => Some(Self::Arn(text.to_owned())),
            Some(parts) if is_alias(parts.resource) => Some(Self::AliasArn(text.to_owned())),
            None if is_id(text) => Some(Self::Id(text.to_owned())),
            None if is_alias(text) => Some(Self::Alias(text.to_owned())),
            _ => None,
        };
        key.ok_or_else(|| {
            let message = format!("`{}` is not a key: give a key's id or ARN, or an alias (alias/NAME) or its ARN", shown(text));
            Refusal::new("InvalidKmsKeyIdException", message)
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(text) | Self::Arn(text) | Self::Alias(text) | Self::AliasArn(text) => text,
        }
    }

    /// Whether it needs KMS to say which key it is.
    pub const fn is_resolved(&self) -> bool {
        matches!(self, Self::Arn(_))
    }
}

fn is_id(text: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit());
    match text.strip_prefix("mrk-") {
        Some(rest) => digits(rest, 32),
        None => text.split('-').count() == 5 && text.split('-').zip([8, 4, 4, 4, 12]).all(|(group, count)| digits(group, count)),
    }
}

fn is_alias(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
    text.strip_prefix("alias/").is_some_and(|name| (1..=ALIAS_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(good))
}
