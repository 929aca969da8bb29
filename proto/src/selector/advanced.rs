//! Advanced event selectors: conditions on fields, all of which must hold.
//!
//! Values of one positive operator are alternatives; of a negative one, none may match; several operators on a field
//! must all hold. Case-sensitive, no wildcards. Conditions on resources hold when one and the same resource meets
//! them all.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facets::Facets;

/// CloudTrail's `AdvancedEventSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AdvancedSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub field_selectors: Vec<FieldSelector>,
}

/// CloudTrail's `AdvancedFieldSelector`. An operator without values is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct FieldSelector {
    pub field: Field,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub equals: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts_with: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends_with: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_equals: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_starts_with: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_ends_with: Vec<String>,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Field {
    #[serde(rename = "eventCategory")]
    EventCategory,
    #[serde(rename = "readOnly")]
    ReadOnly,
    #[serde(rename = "eventSource")]
    EventSource,
    #[serde(rename = "eventName")]
    EventName,
    #[serde(rename = "eventType")]
    EventType,
    #[serde(rename = "errorCode")]
    ErrorCode,
    #[serde(rename = "resources.type")]
    ResourcesType,
    #[serde(rename = "resources.ARN")]
    ResourcesArn,
    #[serde(rename = "userIdentity.arn")]
    UserIdentityArn,
    #[serde(rename = "vpcEndpointId")]
    VpcEndpointId,
    #[serde(rename = "sessionCredentialFromConsole")]
    SessionCredentialFromConsole,
}

impl AdvancedSelector {
    pub(super) fn matches(&self, facets: &Facets) -> bool {
        let (of_resource, of_event): (Vec<&FieldSelector>, Vec<&FieldSelector>) =
            self.field_selectors.iter().partition(|condition| condition.field.is_of_resource());
        let resource_meets_all = |(kind, arn): &(String, String)| {
            of_resource.iter().all(|condition| condition.holds(if condition.field == Field::ResourcesType { kind } else { arn }))
        };
        of_event.iter().all(|condition| condition.holds(condition.field.of(facets)))
            && (of_resource.is_empty() || facets.resources.iter().any(resource_meets_all))
    }

    pub(super) fn condition(&self, field: Field) -> Option<&FieldSelector> {
        self.field_selectors.iter().find(|condition| condition.field == field)
    }

    /// Whether it is of the category and does not ask for what only reads.
    pub(super) fn wants(&self, category: &str, writes: bool) -> bool {
        let equals = |field, wanted: &str| self.condition(field).map(|it| it.equals.iter().any(|value| value == wanted));
        equals(Field::EventCategory, category) == Some(true) && (!writes || equals(Field::ReadOnly, "false") != Some(false))
    }

    /// How messages name it.
    pub(super) fn title(&self) -> String {
        super::rules::shown(self.name.as_deref().unwrap_or_default())
    }
}

impl FieldSelector {
    /// A condition without operators; add values to those that are meant.
    pub fn on(field: Field) -> Self {
        Self {
            field,
            equals: Vec::new(),
            starts_with: Vec::new(),
            ends_with: Vec::new(),
            not_equals: Vec::new(),
            not_starts_with: Vec::new(),
            not_ends_with: Vec::new(),
        }
    }

    fn holds(&self, value: &str) -> bool {
        let wanted = |values: &[String], matches: fn(&str, &str) -> bool| {
            values.is_empty() || values.iter().any(|other| matches(value, other))
        };
        let unwanted = |values: &[String], matches: fn(&str, &str) -> bool| values.iter().any(|other| matches(value, other));
        wanted(&self.equals, |a, b| a == b)
            && wanted(&self.starts_with, |a, b| a.starts_with(b))
            && wanted(&self.ends_with, |a, b| a.ends_with(b))
            && !unwanted(&self.not_equals, |a, b| a == b)
            && !unwanted(&self.not_starts_with, |a, b| a.starts_with(b))
            && !unwanted(&self.not_ends_with, |a, b| a.ends_with(b))
    }

    pub(super) fn values(&self) -> usize {
        self.equals.len() + self.others()
    }

    pub(super) fn all_values(&self) -> impl Iterator<Item = &String> {
        let [a, b, c, d, e] = self.other_values();
        [&self.equals, a, b, c, d, e].into_iter().flatten()
    }

    /// How many values operators other than Equals have.
    pub(super) fn others(&self) -> usize {
        self.other_values().map(Vec::len).iter().sum()
    }

    const fn other_values(&self) -> [&Vec<String>; 5] {
        [&self.starts_with, &self.ends_with, &self.not_equals, &self.not_starts_with, &self.not_ends_with]
    }
}

impl Field {
    pub const ALL: [Self; 11] = [
        Self::EventCategory,
        Self::ReadOnly,
        Self::EventSource,
        Self::EventName,
        Self::EventType,
        Self::ErrorCode,
        Self::ResourcesType,
        Self::ResourcesArn,
        Self::UserIdentityArn,
        Self::VpcEndpointId,
        Self::SessionCredentialFromConsole,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventCategory => "eventCategory",
            Self::ReadOnly => "readOnly",
            Self::EventSource => "eventSource",
            Self::EventName => "eventName",
            Self::EventType => "eventType",
            Self::ErrorCode => "errorCode",
            Self::ResourcesType => "resources.type",
            Self::ResourcesArn => "resources.ARN",
            Self::UserIdentityArn => "userIdentity.arn",
            Self::VpcEndpointId => "vpcEndpointId",
            Self::SessionCredentialFromConsole => "sessionCredentialFromConsole",
        }
    }

    const fn is_of_resource(self) -> bool {
        matches!(self, Self::ResourcesType | Self::ResourcesArn)
    }

    /// The event's own value; empty where it has none.
    fn of(self, facets: &Facets) -> &str {
        match self {
            Self::EventCategory => facets.category.as_str(),
            // What does not say that it only reads may write.
            Self::ReadOnly => boolean(facets.read_only == Some(true)),
            Self::EventSource => &facets.source,
            Self::EventName => &facets.name,
            Self::EventType => facets.event_type.as_str(),
            Self::ErrorCode => facets.error.as_deref().unwrap_or_default(),
            Self::UserIdentityArn => facets.user_arn.as_deref().unwrap_or_default(),
            Self::VpcEndpointId => facets.vpc_endpoint.as_deref().unwrap_or_default(),
            Self::SessionCredentialFromConsole => boolean(facets.session_from_console),
            Self::ResourcesType | Self::ResourcesArn => "",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facets::Category;
    use crate::selector::Selectors;

    fn selectors(json: &str) -> Selectors {
        Selectors::Advanced(vec![serde_json::from_str(&format!(r#"{{"Name":"s","FieldSelectors":[{json}]}}"#)).unwrap()])
    }

    fn open_file(arn: &str) -> Facets {
        Facets {
            category: Category::Data,
            read_only: Some(false),
            name: "ModifyFile".to_owned(),
            resources: vec![("Host::Mount".to_owned(), "arn:m".to_owned()), ("Host::File".to_owned(), arn.to_owned())],
            ..Facets::default()
        }
    }

    const FILES: &str = r#"{"Field":"eventCategory","Equals":["Data"]},{"Field":"resources.type","Equals":["Host::File"]}"#;

    #[test]
    fn all_conditions_must_hold() {
        assert!(selectors(FILES).selects(&open_file("arn:x")));
        assert!(selectors(&format!(r#"{FILES},{{"Field":"readOnly","Equals":["false"]}}"#)).selects(&open_file("arn:x")));
        assert!(!selectors(&format!(r#"{FILES},{{"Field":"readOnly","Equals":["true"]}}"#)).selects(&open_file("arn:x")));
        assert!(!selectors(r#"{"Field":"eventCategory","Equals":["Management"]}"#).selects(&open_file("arn:x")));
    }

    #[test]
    fn one_resource_meets_all_conditions_on_resources() {
        let etc = selectors(&format!(r#"{FILES},{{"Field":"resources.ARN","StartsWith":["arn:e"]}}"#));
        assert!(etc.selects(&open_file("arn:etc")));
        assert!(!etc.selects(&open_file("arn:var")));
        let of_mount = selectors(&format!(r#"{FILES},{{"Field":"resources.ARN","Equals":["arn:m"]}}"#));
        assert!(!of_mount.selects(&open_file("arn:x")), "the mount has the ARN, the file has the type");
    }

    #[test]
    fn each_operator_does_what_it_says() {
        for (operator, values, selected) in [
            ("Equals", r#"["a","ModifyFile"]"#, true),
            ("Equals", r#"["modifyfile"]"#, false),
            ("StartsWith", r#"["Mod"]"#, true),
            ("EndsWith", r#"["Dir","File"]"#, true),
            ("NotEquals", r#"["a"]"#, true),
            ("NotEquals", r#"["a","ModifyFile"]"#, false),
            ("NotStartsWith", r#"["Mod","x"]"#, false),
            ("NotEndsWith", r#"["File"]"#, false),
            ("NotEndsWith", r#"["file"]"#, true),
        ] {
            let selectors = selectors(&format!(r#"{FILES},{{"Field":"eventName","{operator}":{values}}}"#));
            assert_eq!(selectors.selects(&open_file("arn:x")), selected, "{operator} {values}");
            assert_eq!(selectors.validate(), Ok(()));
        }
        let both = selectors(&format!(r#"{FILES},{{"Field":"eventName","StartsWith":["Mod"],"NotEndsWith":["File"]}}"#));
        assert!(!both.selects(&open_file("arn:x")));
    }
}
