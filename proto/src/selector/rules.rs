//! Which selectors CloudTrail would take for a trail.

use std::collections::HashSet;

use super::{
    ADVANCED_VALUES_MAX, AdvancedSelector, BASIC_SELECTORS_MAX, BasicSelector, DATA_RESOURCES_MAX, Field, FieldSelector,
    NAME_CHARACTERS_MAX, SelectorError, VALUE_CHARACTERS, means_all,
};

/// Most characters of a given value that an error shows.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// What basic selectors take data events of. Source: DataResource, `Type`.
const RESOURCE_TYPES: [&str; 3] = ["AWS::S3::Object", "AWS::Lambda::Function", "AWS::DynamoDB::Table"];

/// Whose management events basic selectors can leave out. Source: EventSelector, `ExcludeManagementEventSources`.
const EXCLUDABLE_SOURCES: [&str; 2] = ["kms.amazonaws.com", "rdsdata.amazonaws.com"];

/// What a category needs and allows besides eventCategory.
struct Rules {
    category: &'static str,
    required: Option<Field>,
    allowed: &'static [Field],
}

/// Source: CloudTrail API reference, AdvancedFieldSelector; for management events the fields that event data stores have,
/// too. Insight, ConfigurationItem and Evidence are categories of event data stores alone.
const RULES: [Rules; 4] = [
    Rules {
        category: "Management",
        required: None,
        allowed: &[
            Field::EventSource,
            Field::ReadOnly,
            Field::EventName,
            Field::EventType,
            Field::SessionCredentialFromConsole,
            Field::UserIdentityArn,
        ],
    },
    Rules {
        category: "Data",
        required: Some(Field::ResourcesType),
        allowed: &[
            Field::ReadOnly,
            Field::EventName,
            Field::EventSource,
            Field::EventType,
            Field::ResourcesArn,
            Field::SessionCredentialFromConsole,
            Field::UserIdentityArn,
        ],
    },
    Rules {
        category: "NetworkActivity",
        required: Some(Field::EventSource),
        allowed: &[Field::EventName, Field::ErrorCode, Field::VpcEndpointId, Field::UserIdentityArn],
    },
    // CloudTrail takes it for event data stores alone; here trails are all there is.
    Rules { category: "ActivityAuditLog", required: None, allowed: &[] },
];

pub(super) fn validate_basic(selectors: &[BasicSelector]) -> Result<(), SelectorError> {
    if selectors.len() > BASIC_SELECTORS_MAX {
        return Err(SelectorError::TooManySelectors(selectors.len()));
    }
    let values = selectors.iter().flat_map(BasicSelector::values).filter(|value| !means_all(value)).count();
    if values > DATA_RESOURCES_MAX {
        return Err(SelectorError::TooManyResources(values));
    }
    selectors.iter().try_for_each(BasicSelector::validate)
}

pub(super) fn validate_advanced(selectors: &[AdvancedSelector]) -> Result<(), SelectorError> {
    let values = selectors.iter().flat_map(|selector| &selector.field_selectors).map(FieldSelector::values).sum();
    if values > ADVANCED_VALUES_MAX {
        return Err(SelectorError::TooManyValues(values));
    }
    selectors.iter().try_for_each(validate_one)
}

fn validate_one(selector: &AdvancedSelector) -> Result<(), SelectorError> {
    let name = || selector.title();
    if selector.name.as_deref().unwrap_or_default().chars().count() > NAME_CHARACTERS_MAX {
        return Err(SelectorError::Name(name()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = selector.field_selectors.iter().find(|condition| !seen.insert(condition.field)) {
        return Err(SelectorError::Twice { selector: name(), field: twice.field });
    }
    let category = match selector.condition(Field::EventCategory) {
        Some(FieldSelector { equals, .. }) if equals.len() == 1 => equals.first(),
        _ => None,
    };
    let known = RULES.iter().find(|rules| category.is_some_and(|category| category == rules.category));
    let Some(&Rules { category, required, allowed }) = known else { return Err(SelectorError::Category(name())) };
    if let Some(field) = required.filter(|&field| selector.condition(field).is_none()) {
        return Err(SelectorError::Missing { selector: name(), category, field });
    }
    for condition in &selector.field_selectors {
        let field = condition.field;
        if field != Field::EventCategory && required != Some(field) && !allowed.contains(&field) {
            return Err(SelectorError::NotAllowed { selector: name(), category, field });
        }
        if condition.all_values().any(|value| !VALUE_CHARACTERS.contains(&value.chars().count())) {
            return Err(SelectorError::Value { selector: name(), field });
        }
        let chosen = field.choices().is_none_or(|all| condition.all_values().all(|value| all.contains(&value.as_str())));
        if condition.values() == 0 || !chosen || !field.takes(condition, category) {
            return Err(SelectorError::Operators { selector: name(), field });
        }
    }
    Ok(())
}

impl BasicSelector {
    fn validate(&self) -> Result<(), SelectorError> {
        if let Some(other) = self.data_resources.iter().find(|resource| !RESOURCE_TYPES.contains(&resource.kind.as_str())) {
            return Err(SelectorError::ResourceType(shown(&other.kind)));
        }
        let good = |value: &str| value.starts_with("arn:") && VALUE_CHARACTERS.contains(&value.chars().count());
        if let Some(other) = self.values().find(|value| !good(value)) {
            return Err(SelectorError::ResourceValue(shown(other)));
        }
        let excluded = &self.exclude_management_event_sources;
        if let Some(other) = excluded.iter().find(|source| !EXCLUDABLE_SOURCES.contains(&source.as_str())) {
            return Err(SelectorError::ExcludedSource(shown(other)));
        }
        match self.include_management_events {
            false if !excluded.is_empty() => Err(SelectorError::NothingToExclude),
            false if self.values().next().is_none() => Err(SelectorError::Nothing),
            _ => Ok(()),
        }
    }
}

impl Field {
    /// The only values that it takes; `None` where it takes any.
    const fn choices(self) -> Option<&'static [&'static str]> {
        match self {
            Self::ReadOnly | Self::SessionCredentialFromConsole => Some(&["true", "false"]),
            Self::ErrorCode => Some(&["VpceAccessDenied"]),
            _ => None,
        }
    }

    /// Whether the condition uses only operators that the field takes in the category. Source: CloudTrail API reference,
    /// AdvancedFieldSelector, `Field`.
    fn takes(self, condition: &FieldSelector, category: &str) -> bool {
        let equals = match self {
            Self::EventCategory | Self::ResourcesType | Self::ReadOnly | Self::ErrorCode => true,
            Self::EventSource => category == "NetworkActivity",
            _ => false,
        };
        let or_not = self == Self::SessionCredentialFromConsole;
        let others = condition.others();
        others == 0 || (!equals && (!or_not || others == condition.not_equals.len()))
    }
}

/// A given value as an error shows it: bounded, on one line.
pub(super) fn shown(value: &str) -> String {
    value.chars().take(SHOWN_CHARACTERS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}
