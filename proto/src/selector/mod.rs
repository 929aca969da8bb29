//! Which records are wanted: CloudTrail's basic and advanced event selectors, as pure matching over facets.
//!
//! An event is selected when any selector matches. A gap is always selected. Insights events answer to Insights
//! selectors, not to these: none of these matches them.

mod advanced;
mod routing;
mod rules;

pub use advanced::{AdvancedSelector, Field, FieldSelector};
pub use routing::{Key, keys_of};

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::facets::{Category, Facets};

/// Most basic selectors of a trail. Source: CloudTrail's quota.
pub const BASIC_SELECTORS_MAX: usize = 5;

/// Most values over all data resources of a trail, not counting those that mean all. Source: CloudTrail's quota.
pub const DATA_RESOURCES_MAX: usize = 250;

/// Most values over all conditions of a trail's advanced selectors. Source: CloudTrail's quota.
pub const ADVANCED_VALUES_MAX: usize = 500;

/// Longest name of a selector, in characters. Source: the model's `SelectorName`.
pub const NAME_CHARACTERS_MAX: usize = 1000;

/// Shortest and longest value of a condition or data resource, in characters. Source: the model's `OperatorValue`.
pub const VALUE_CHARACTERS: RangeInclusive<usize> = 1..=2048;

/// What a trail or an agent selects: one kind of selector or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selectors {
    #[serde(rename = "EventSelectors")]
    Basic(Vec<BasicSelector>),
    #[serde(rename = "AdvancedEventSelectors")]
    Advanced(Vec<AdvancedSelector>),
}

/// CloudTrail's `EventSelector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct BasicSelector {
    pub read_write_type: ReadWriteType,
    pub include_management_events: bool,
    pub data_resources: Vec<DataResource>,
    /// Sources whose management events are not wanted.
    pub exclude_management_event_sources: Vec<String>,
}

/// CloudTrail's `ReadWriteType`: by the record's readOnly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadWriteType {
    #[default]
    All,
    ReadOnly,
    /// Also what does not say whether it only reads.
    WriteOnly,
}

/// CloudTrail's `DataResource`: the resources of one type whose data events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct DataResource {
    #[serde(rename = "Type")]
    pub kind: String,
    /// ARNs; for objects, prefixes of ARNs.
    pub values: Vec<String>,
}

/// Why selectors are refused; the API's `InvalidEventSelectorsException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("{0} event selectors are given, at most {BASIC_SELECTORS_MAX} are allowed")]
    TooManySelectors(usize),
    #[error("{0} data resources are given, at most {DATA_RESOURCES_MAX} are allowed")]
    TooManyResources(usize),
    #[error("{0} values are given, at most {ADVANCED_VALUES_MAX} are allowed")]
    TooManyValues(usize),
    #[error(
        "`{0}` is no type of a data resource: use AWS::S3::Object, AWS::Lambda::Function or AWS::DynamoDB::Table, or advanced selectors"
    )]
    ResourceType(String),
    #[error(
        "the management events of `{0}` can't be excluded: only those of kms.amazonaws.com and rdsdata.amazonaws.com, or use advanced selectors"
    )]
    ExcludedSource(String),
    #[error("sources of management events can't be excluded where management events are not included")]
    NothingToExclude,
    #[error("`{0}` is no value of a data resource: give an ARN or the beginning of one, of at most 2048 characters")]
    ResourceValue(String),
    #[error("an event selector selects nothing: include management events or name data resources")]
    Nothing,
    #[error("the selector's name `{0}` is longer than {NAME_CHARACTERS_MAX} characters")]
    Name(String),
    #[error("the selector `{selector}` gives `{field}` a value that has not 1 to 2048 characters")]
    Value { selector: String, field: Field },
    #[error(
        "the selector `{0}` needs eventCategory with one Equals value: Management, Data, NetworkActivity or ActivityAuditLog"
    )]
    Category(String),
    #[error("the selector `{selector}` of category {category} needs `{field}`")]
    Missing { selector: String, category: &'static str, field: Field },
    #[error("the selector `{selector}` of category {category} can't select by `{field}`")]
    NotAllowed { selector: String, category: &'static str, field: Field },
    #[error("the selector `{selector}` names `{field}` twice: put its values into one condition")]
    Twice { selector: String, field: Field },
    #[error("the selector `{selector}` gives `{field}` no operator with values, or other values or operators than it takes")]
    Operators { selector: String, field: Field },
}

impl Selectors {
    /// Whether the record of these facets is wanted.
    pub fn selects(&self, facets: &Facets) -> bool {
        if facets.is_gap() {
            return true;
        }
        match self {
            Self::Basic(selectors) => selectors.iter().any(|selector| selector.matches(facets)),
            Self::Advanced(selectors) => selectors.iter().any(|selector| selector.matches(facets)),
        }
    }

    /// Whether management events are wanted at all.
    pub fn wants_management(&self) -> bool {
        self.wants("Management", false)
    }

    /// Whether management events that may write are.
    pub fn wants_management_writes(&self) -> bool {
        self.wants("Management", true)
    }

    /// Whether data events are.
    pub fn wants_data(&self) -> bool {
        self.wants("Data", false)
    }

    fn wants(&self, category: &str, writes: bool) -> bool {
        match self {
            Self::Basic(selectors) => selectors.iter().any(|selector| selector.wants(category, writes)),
            Self::Advanced(selectors) => selectors.iter().any(|selector| selector.wants(category, writes)),
        }
    }

    /// Whether CloudTrail would take these for a trail.
    pub fn validate(&self) -> Result<(), SelectorError> {
        match self {
            Self::Basic(selectors) => rules::validate_basic(selectors),
            Self::Advanced(selectors) => rules::validate_advanced(selectors),
        }
    }
}

impl Default for Selectors {
    /// What a trail has before anybody selects: all management events.
    fn default() -> Self {
        Self::Basic(vec![BasicSelector::default()])
    }
}

impl Default for BasicSelector {
    fn default() -> Self {
        Self {
            read_write_type: ReadWriteType::All,
            include_management_events: true,
            data_resources: Vec::new(),
            exclude_management_event_sources: Vec::new(),
        }
    }
}

impl BasicSelector {
    fn values(&self) -> impl Iterator<Item = &String> {
        self.data_resources.iter().flat_map(|resource| &resource.values)
    }

    fn wants(&self, category: &str, writes: bool) -> bool {
        let of_category = if category == "Management" { self.include_management_events } else { self.values().next().is_some() };
        of_category && (!writes || self.read_write_type != ReadWriteType::ReadOnly)
    }

    fn matches(&self, facets: &Facets) -> bool {
        let read_write = match self.read_write_type {
            ReadWriteType::All => true,
            ReadWriteType::ReadOnly => facets.read_only == Some(true),
            ReadWriteType::WriteOnly => facets.read_only != Some(true),
        };
        read_write
            && match facets.category {
                Category::Management => {
                    self.include_management_events && !self.exclude_management_event_sources.contains(&facets.source)
                }
                Category::Data => self.data_resources.iter().any(|wanted| wanted.matches(facets)),
                _ => false,
            }
    }
}

impl DataResource {
    fn matches(&self, facets: &Facets) -> bool {
        let of_kind = facets.resources.iter().filter(|(kind, _)| *kind == self.kind);
        of_kind.into_iter().any(|(_, arn)| self.values.iter().any(|value| self.covers(value, arn)))
    }

    fn covers(&self, value: &str, arn: &str) -> bool {
        let by_prefix = means_all(value) || self.kind == "AWS::S3::Object";
        if by_prefix { arn.starts_with(value) } else { arn == value }
    }
}

/// `arn:PARTITION:SERVICE`, with or without closing colons: every resource of the service.
fn means_all(value: &str) -> bool {
    value.trim_end_matches(':').split(':').count() == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(category: Category, read_only: bool, resources: &[(&str, &str)]) -> Facets {
        Facets {
            category,
            read_only: Some(read_only),
            source: "kms.amazonaws.com".to_owned(),
            resources: resources.iter().map(|(kind, arn)| ((*kind).to_owned(), (*arn).to_owned())).collect(),
            ..Facets::default()
        }
    }

    fn basic(selector: BasicSelector) -> Selectors {
        Selectors::Basic(vec![selector])
    }

    #[test]
    fn the_default_is_all_management_events_and_no_others() {
        let selectors = Selectors::default();
        assert!(selectors.selects(&event(Category::Management, true, &[])));
        for category in [Category::Data, Category::NetworkActivity, Category::Insight, Category::Other("x".to_owned())] {
            assert!(!selectors.selects(&event(category, false, &[])));
        }
    }

    #[test]
    fn a_gap_is_selected_by_no_selector_at_all() {
        let gap = Facets { source: "agent.edgetrail".to_owned(), name: "ReportGap".to_owned(), ..Facets::default() };
        assert!(Selectors::Basic(Vec::new()).selects(&gap) && Selectors::Advanced(Vec::new()).selects(&gap));
    }

    #[test]
    fn read_and_write_are_told_apart() {
        let only = |read_write_type| basic(BasicSelector { read_write_type, ..BasicSelector::default() });
        for (read_write_type, read, write) in [(ReadWriteType::ReadOnly, true, false), (ReadWriteType::WriteOnly, false, true)] {
            assert_eq!(only(read_write_type).selects(&event(Category::Management, true, &[])), read);
            assert_eq!(only(read_write_type).selects(&event(Category::Management, false, &[])), write);
            let unsaid = Facets { read_only: None, ..event(Category::Management, true, &[]) };
            assert_eq!(only(read_write_type).selects(&unsaid), write, "what does not say that it reads may write");
        }
    }

    #[test]
    fn excluded_sources_lose_their_management_events() {
        let excluding = |source: &str| {
            basic(BasicSelector { exclude_management_event_sources: vec![source.to_owned()], ..BasicSelector::default() })
        };
        assert!(!excluding("kms.amazonaws.com").selects(&event(Category::Management, true, &[])));
        assert!(excluding("rdsdata.amazonaws.com").selects(&event(Category::Management, true, &[])));
        assert!(matches!(excluding("sudo.linux").validate(), Err(SelectorError::ExcludedSource(_))));
    }

    #[test]
    fn data_resources_match_objects_by_prefix_and_functions_whole() {
        let wanted = |kind: &str, value: &str| {
            let resource = DataResource { kind: kind.to_owned(), values: vec![value.to_owned()] };
            basic(BasicSelector { data_resources: vec![resource], ..BasicSelector::default() })
        };
        let object =
            event(Category::Data, true, &[("AWS::S3::Bucket", "arn:aws:s3:::b"), ("AWS::S3::Object", "arn:aws:s3:::b/x")]);
        assert!(wanted("AWS::S3::Object", "arn:aws:s3:::b/").selects(&object));
        assert!(wanted("AWS::S3::Object", "arn:aws:s3").selects(&object));
        assert!(!wanted("AWS::S3::Object", "arn:aws:s3:::c/").selects(&object));
        assert!(!wanted("AWS::Lambda::Function", "arn:aws:s3").selects(&object));
        let function = event(Category::Data, true, &[("AWS::Lambda::Function", "arn:aws:lambda:r:111122223333:function:f1")]);
        assert!(wanted("AWS::Lambda::Function", "arn:aws:lambda:r:111122223333:function:f1").selects(&function));
        assert!(!wanted("AWS::Lambda::Function", "arn:aws:lambda:r:111122223333:function:f").selects(&function));
        assert!(wanted("AWS::Lambda::Function", "arn:aws:lambda").selects(&function));
        assert!(wanted("Host::File", "x").validate().is_err());
    }

    #[test]
    fn quotas_of_basic_selectors_hold() {
        assert_eq!(Selectors::Basic(vec![BasicSelector::default(); 6]).validate(), Err(SelectorError::TooManySelectors(6)));
        let of = |value: &str, n| DataResource { kind: "AWS::S3::Object".to_owned(), values: vec![value.to_owned(); n] };
        let with = |resource| basic(BasicSelector { data_resources: vec![resource], ..BasicSelector::default() });
        assert_eq!(with(of("arn:aws:s3:::b/", 251)).validate(), Err(SelectorError::TooManyResources(251)));
        assert_eq!(with(of("arn:aws:s3", 251)).validate(), Ok(()));
    }

    #[test]
    fn the_apis_json_is_read() {
        let json = r#"{"EventSelectors":[{"ReadWriteType":"WriteOnly","IncludeManagementEvents":false,
            "DataResources":[{"Type":"AWS::S3::Object","Values":["arn:aws:s3:::b/"]}]}]}"#;
        let selectors: Selectors = serde_json::from_str(json).unwrap();
        assert!(!selectors.selects(&event(Category::Management, false, &[])));
        assert!(selectors.selects(&event(Category::Data, false, &[("AWS::S3::Object", "arn:aws:s3:::b/x")])));
    }
}
