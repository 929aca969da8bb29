//! Which part of a bucket a caller may see, whatever its policies say.
//!
//! The account that owns a trail sees its whole bucket. Every other account sees what lies below its own
//! `AWSLogs/ACCOUNT/`: there is nothing by which it could tell that another account has anything here.

use edgetrail_proto::identity::AccountId;
use http::StatusCode;

use crate::api::fault::Fault;
use crate::control::TrailConfig;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    /// Keys that begin so.
    Below(String),
}

impl Share {
    pub(super) fn of(trail: &TrailConfig, account: &AccountId) -> Self {
        if trail.account == account.as_str() {
            return Self::Whole;
        }
        let prefix = trail.prefix.as_deref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        Self::Below(format!("{prefix}AWSLogs/{account}/"))
    }

    /// Whether a key, or each key with this prefix, is in it.
    pub(super) fn holds(&self, prefix: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Below(mine) => prefix.starts_with(mine.as_str()),
        }
    }

    /// `key`: of an object, or the prefix of a listing.
    pub(super) fn check(&self, key: &str) -> Result<(), Fault> {
        match self {
            Self::Below(mine) if !self.holds(key) => {
                Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", format!("an account reads what lies below {mine}")))
            }
            Self::Whole | Self::Below(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_ends_at_the_accounts_own_folder() {
        let share = Share::Below("p/AWSLogs/444455556666/".to_owned());
        for mine in ["p/AWSLogs/444455556666/", "p/AWSLogs/444455556666/CloudTrail/x"] {
            assert!(share.holds(mine), "{mine}");
        }
        for other in ["", "p/AWSLogs/", "p/AWSLogs/444455556666", "p/AWSLogs/111122223333/x", "AWSLogs/444455556666/x"] {
            assert_eq!(share.check(other).map_err(|fault| fault.code), Err("AccessDenied"), "{other}");
        }
        assert!(Share::Whole.holds(""));
    }
}
