//! What a stream is bound to for its life: a set of account and region, and a host: docs/protocol.md §3.1.

use std::collections::BTreeSet;

use super::Hash;
use crate::identity::{AccountId, Region};
use crate::limits::BINDING_BYTES_MAX;

/// `ACCOUNT/REGION` lines, sorted bytewise, then the host's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    scopes: BTreeSet<(AccountId, Region)>,
    host: String,
    /// Bound to whatever a record says: the collector's internal stream alone.
    all: bool,
}

/// The line that stands for every account and region, in the internal stream's binding.
const ALL: &str = "*/*";

/// Why bytes, or a host and scopes, are no binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("the binding is {bytes} bytes long; at most {BINDING_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("line {line} of the binding is not ACCOUNT/REGION")]
    Line { line: usize },
    #[error("the binding's lines are not sorted, or one stands twice")]
    Unsorted,
    #[error("the binding names no account and region")]
    Empty,
    #[error("the binding does not end in a host name and a line feed")]
    Host,
}

impl Binding {
    /// An ordinary agent's: one account and region. A line feed in the host would end the line: it is refused.
    pub fn one(account: AccountId, region: Region, host: &str) -> Result<Self, BindingError> {
        Self::set([(account, region)], host)
    }

    /// A gateway's: what its token lists.
    pub fn set(scopes: impl IntoIterator<Item = (AccountId, Region)>, host: &str) -> Result<Self, BindingError> {
        Self { scopes: scopes.into_iter().collect(), host: host.to_owned(), all: false }.checked()
    }

    /// The collector's internal stream: all accounts and regions.
    pub fn all(host: &str) -> Result<Self, BindingError> {
        Self { scopes: BTreeSet::new(), host: host.to_owned(), all: true }.checked()
    }

    fn checked(self) -> Result<Self, BindingError> {
        if self.host.is_empty() || self.host.contains(['\n', '/']) {
            return Err(BindingError::Host);
        }
        if self.scopes.is_empty() && !self.all {
            return Err(BindingError::Empty);
        }
        match self.to_bytes().len() {
            bytes if bytes > BINDING_BYTES_MAX => Err(BindingError::TooLong { bytes }),
            _ => Ok(self),
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn scopes(&self) -> impl Iterator<Item = &(AccountId, Region)> {
        self.scopes.iter()
    }

    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether a record of this account and region may be in the stream.
    pub fn allows(&self, account: &str, region: &str) -> bool {
        self.all || self.scopes.iter().any(|(a, r)| a.as_str() == account && r.as_str() == region)
    }

    /// The one account and region, if it is bound to exactly one.
    pub fn single(&self) -> Option<&(AccountId, Region)> {
        let mut scopes = self.scopes.iter();
        scopes.next().filter(|_| scopes.next().is_none() && !self.all)
    }

    /// The text whose hash an open holds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut lines: Vec<String> = self.scopes.iter().map(|(account, region)| format!("{account}/{region}\n")).collect();
        if self.all {
            lines.push(format!("{ALL}\n"));
        }
        lines.sort_unstable();
        let mut text = lines.concat();
        text.push_str(&self.host);
        text.push('\n');
        text.into_bytes()
    }

    /// Reads a binding; there is one text for each, any other is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, BindingError> {
        if bytes.len() > BINDING_BYTES_MAX {
            return Err(BindingError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).ok().and_then(|t| t.strip_suffix('\n')).ok_or(BindingError::Host)?;
        let (lines, host) = text.rsplit_once('\n').unwrap_or(("", text));
        let mut scopes = BTreeSet::new();
        let mut all = false;
        for (index, line) in lines.split('\n').filter(|_| !lines.is_empty()).enumerate() {
            let line_error = || BindingError::Line { line: index + 1 };
            if line == ALL {
                all = true;
                continue;
            }
            let (account, region) = line.split_once('/').ok_or_else(line_error)?;
            scopes.insert((account.parse().map_err(|_| line_error())?, region.parse().map_err(|_| line_error())?));
        }
        let binding = Self { scopes, host: host.to_owned(), all }.checked()?;
        if binding.to_bytes() == bytes { Ok(binding) } else { Err(BindingError::Unsorted) }
    }

    pub fn hash(&self) -> Hash {
        Hash::of(&self.to_bytes())
    }
}
