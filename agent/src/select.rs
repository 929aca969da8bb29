//! What is kept: Management unless configured otherwise; what is turned away is counted.
//!
//! The agent's own records skip selection. Nothing here changes a record.

use edgetrail_proto::facets::Facets;
use edgetrail_proto::record::{EventCategory, Record};
use edgetrail_proto::selector::{AdvancedSelector, SelectorError, Selectors};
use memchr::memmem::Finder;
use serde::Deserialize;

use crate::normalize::Made;

/// The section `[select]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether Data events are kept: each command, file or object access.
    pub data: bool,
    /// CloudTrail's advanced event selectors; where there are any, they alone decide.
    pub advanced: Vec<AdvancedSelector>,
}

/// Decides what is kept.
#[derive(Debug)]
pub struct Selection {
    data: bool,
    selectors: Option<Selectors>,
    category: Finder<'static>,
}

/// The member that says a record's category, as records made here write it.
const CATEGORY: &[u8] = b"\"eventCategory\":\"";

impl Config {
    pub fn validate(&self) -> Result<(), SelectorError> {
        if self.advanced.is_empty() { Ok(()) } else { Selectors::Advanced(self.advanced.clone()).validate() }
    }
}

impl Selection {
    pub fn new(config: &Config) -> Self {
        let advanced = config.advanced.clone();
        let selectors = (!advanced.is_empty()).then_some(Selectors::Advanced(advanced));
        Self { data: config.data, selectors, category: Finder::new(CATEGORY) }
    }

    /// Whether it turns away every Data event that is made here.
    pub fn refuses_data(&self) -> bool {
        !self.data && self.selectors.is_none()
    }

    /// Whether a record is kept. One that can't be judged is: never nothing.
    pub fn keeps(&self, made: &Made) -> bool {
        match (&self.selectors, made) {
            (None, Made::Record(record)) => self.keeps_category(&record.event_category),
            (None, Made::Written(bytes)) => self.is_management(bytes) || self.keeps_bytes(bytes),
            // Made elsewhere, where it was selected already: kept whole unless selectors say otherwise.
            (None, Made::Foreign(_)) => true,
            (Some(selectors), made) => {
                let facets = match made {
                    Made::Record(record) => Facets::parse(&Record::to_json(record)),
                    Made::Written(bytes) | Made::Foreign(bytes) => Facets::parse(bytes),
                };
                facets.map_or(true, |facets| selectors.selects(&facets))
            }
        }
    }

    fn keeps_bytes(&self, bytes: &[u8]) -> bool {
        Facets::parse(bytes).map_or(true, |facets| self.keeps_category(&facets.category))
    }

    fn keeps_category(&self, category: &EventCategory) -> bool {
        self.data || !matches!(category, EventCategory::Data)
    }

    /// Without parsing: the member stands there once, so it is the record's own. In a text its quotes are escaped.
    fn is_management(&self, bytes: &[u8]) -> bool {
        let mut found = self.category.find_iter(bytes);
        let (Some(at), None) = (found.next(), found.next()) else { return false };
        bytes.get(at + CATEGORY.len()..).is_some_and(|value| value.starts_with(b"Management\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(category: &str, parameters: &str) -> Vec<u8> {
        format!(
            r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-01T00:00:00Z","eventSource":"a.linux","eventName":"Do","awsRegion":"lab","sourceIPAddress":"h","requestParameters":{parameters},"eventID":"0190b2a4-0000-7000-8000-000000000001","eventType":"AwsApiCall","recipientAccountId":"123456789012","eventCategory":"{category}"}}"#
        )
        .into_bytes()
    }

    #[test]
    fn data_is_kept_only_when_selected() {
        let (default, all) = (Selection::new(&Config::default()), Selection::new(&Config { data: true, ..Config::default() }));
        assert!(default.keeps(&Made::Written(record("Management", "null"))));
        assert!(!default.keeps(&Made::Written(record("Data", "null"))));
        assert!(all.keeps(&Made::Written(record("Data", "null"))));
    }

    #[test]
    fn records_made_elsewhere_are_turned_away_by_selectors_alone() {
        assert!(Selection::new(&Config::default()).keeps(&Made::Foreign(record("Data", "null"))));
        let text = r#"[{"FieldSelectors":[{"Field":"eventCategory","Equals":["Management"]}]}]"#;
        let config = Config { data: false, advanced: serde_json::from_str(text).unwrap() };
        assert!(!Selection::new(&config).keeps(&Made::Foreign(record("Data", "null"))));
    }

    #[test]
    fn a_category_inside_the_parameters_deceives_nobody() {
        let selection = Selection::new(&Config::default());
        assert!(!selection.keeps(&Made::Written(record("Data", r#"{"eventCategory":"Management"}"#))));
        assert!(!selection.keeps(&Made::Written(record("Data", r#""\"eventCategory\":\"Management\"""#))));
    }

    #[test]
    fn advanced_selectors_alone_decide() {
        let text = r#"[{"FieldSelectors":[{"Field":"eventCategory","Equals":["Management"]},{"Field":"eventSource","Equals":["b.linux"]}]}]"#;
        let config = Config { data: true, advanced: serde_json::from_str(text).unwrap() };
        let selection = Selection::new(&config);
        assert!(!selection.keeps(&Made::Written(record("Management", "null"))));
    }
}
