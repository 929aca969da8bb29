//! Which of many selectors an event can concern, by a hash look-up instead of asking each.
//!
//! A selector has keys, an event has keys: where the selector takes the event, they share one. The reverse does not hold:
//! whoever shares a key is asked. A gap is every selector's and needs no key.

use std::borrow::Cow;

use super::{AdvancedSelector, BasicSelector, Field, Selectors};
use crate::facets::Facets;

/// What an event must have before a selector can take it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// An eventName.
    Name(Cow<'a, str>),
    /// The type of one of its resources.
    ResourceType(Cow<'a, str>),
    /// An eventSource.
    Source(Cow<'a, str>),
    /// An eventCategory.
    Category(Cow<'a, str>),
    /// Nothing: every event has it.
    Any,
}

/// Fields that a selector can be found by, the one that is shared by the fewest events first.
const FIELDS: [Field; 4] = [Field::EventName, Field::ResourcesType, Field::EventSource, Field::EventCategory];

impl Selectors {
    /// At least one for each selector; without repetitions.
    pub fn keys(&self) -> Vec<Key<'static>> {
        let all: Vec<Key<'static>> = match self {
            Self::Basic(selectors) => selectors.iter().flat_map(BasicSelector::keys).collect(),
            Self::Advanced(selectors) => selectors.iter().flat_map(AdvancedSelector::keys).collect(),
        };
        let mut keys = Vec::with_capacity(all.len());
        for key in all {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

impl BasicSelector {
    fn keys(&self) -> Vec<Key<'static>> {
        let management = self.include_management_events.then_some(Key::Category(Cow::Borrowed("Management")));
        let data = self.data_resources.iter().map(|resource| Key::ResourceType(resource.kind.clone().into()));
        management.into_iter().chain(data).collect()
    }
}

impl AdvancedSelector {
    /// One for each value of the rarest field that has to be equal to something.
    fn keys(&self) -> Vec<Key<'static>> {
        let values = |field| self.condition(field).map(|condition| &condition.equals).filter(|values| !values.is_empty());
        match FIELDS.into_iter().find_map(|field| Some((field, values(field)?))) {
            Some((field, values)) => values.iter().map(|value| Key::of(field, value.clone().into())).collect(),
            None => vec![Key::Any],
        }
    }
}

impl<'a> Key<'a> {
    fn of(field: Field, value: Cow<'a, str>) -> Self {
        match field {
            Field::EventName => Self::Name(value),
            Field::ResourcesType => Self::ResourceType(value),
            Field::EventSource => Self::Source(value),
            Field::EventCategory => Self::Category(value),
            _ => Self::Any,
        }
    }
}

/// The keys of an event; a resource type stands as often as there are resources of it.
pub fn keys_of(facets: &Facets) -> impl Iterator<Item = Key<'_>> {
    let resources = facets.resources.iter().map(|(kind, _)| Key::ResourceType(Cow::Borrowed(kind.as_str())));
    let of_event = [
        Key::Name(Cow::Borrowed(facets.name.as_str())),
        Key::Source(Cow::Borrowed(facets.source.as_str())),
        Key::Category(Cow::Borrowed(facets.category.as_str())),
        Key::Any,
    ];
    of_event.into_iter().chain(resources)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::selector::{DataResource, FieldSelector, ReadWriteType};

    /// Few texts, so that random selectors often take random events.
    fn text() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["", "a", "ab", "b", "true", "Management", "Data", "AWS::S3::Object", "arn:aws:s3"])
            .prop_map(str::to_owned)
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(text(), 0..3)
    }

    fn condition() -> impl Strategy<Value = FieldSelector> {
        (prop::sample::select(Field::ALL.to_vec()), texts(), texts(), texts()).prop_map(
            |(field, equals, starts_with, not_equals)| FieldSelector {
                equals,
                starts_with,
                not_equals,
                ..FieldSelector::on(field)
            },
        )
    }

    fn basic() -> impl Strategy<Value = BasicSelector> {
        let kind = prop::sample::select(vec![ReadWriteType::All, ReadWriteType::ReadOnly, ReadWriteType::WriteOnly]);
        let resources = prop::collection::vec((text(), texts()).prop_map(|(kind, values)| DataResource { kind, values }), 0..3);
        (kind, any::<bool>(), resources, texts()).prop_map(|(kind, management, resources, excluded)| BasicSelector {
            read_write_type: kind,
            include_management_events: management,
            data_resources: resources,
            exclude_management_event_sources: excluded,
        })
    }

    fn selectors() -> impl Strategy<Value = Selectors> {
        let advanced =
            prop::collection::vec(condition(), 0..4).prop_map(|field_selectors| AdvancedSelector { name: None, field_selectors });
        prop_oneof![
            prop::collection::vec(basic(), 0..3).prop_map(Selectors::Basic),
            prop::collection::vec(advanced, 0..3).prop_map(Selectors::Advanced),
        ]
    }

    fn event() -> impl Strategy<Value = Facets> {
        let resources = prop::collection::vec((text(), text()), 0..3);
        (text(), text(), text(), any::<Option<bool>>(), resources).prop_map(|(category, source, name, read_only, resources)| {
            Facets { category: category.into(), source, name, read_only, resources, ..Facets::default() }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_event_that_is_selected_lacks_a_key(selectors in selectors(), event in event()) {
            let keys = selectors.keys();
            prop_assert!(!selectors.selects(&event) || keys_of(&event).any(|key| keys.contains(&key)), "{keys:?}");
        }
    }

    #[test]
    fn a_selector_is_found_by_its_rarest_field() {
        let on = |field, value: &str| FieldSelector { equals: vec![value.to_owned()], ..FieldSelector::on(field) };
        let selector = |field_selectors| Selectors::Advanced(vec![AdvancedSelector { name: None, field_selectors }]);
        let data = on(Field::EventCategory, "Data");
        let files = on(Field::ResourcesType, "Host::File");
        let source = on(Field::EventSource, "sudo.linux");
        let name = FieldSelector { equals: vec!["A".into(), "B".into()], ..FieldSelector::on(Field::EventName) };
        for (conditions, keys) in [
            (vec![data.clone(), source.clone(), files.clone(), name], vec![Key::Name("A".into()), Key::Name("B".into())]),
            (vec![data.clone(), source.clone(), files], vec![Key::ResourceType("Host::File".into())]),
            (vec![data.clone(), source], vec![Key::Source("sudo.linux".into())]),
            (vec![data], vec![Key::Category("Data".into())]),
            (vec![], vec![Key::Any]),
        ] {
            assert_eq!(selector(conditions).keys(), keys);
        }
        assert_eq!(Selectors::default().keys(), vec![Key::Category("Management".into())]);
        assert_eq!(Selectors::Basic(vec![BasicSelector::default(); 3]).keys().len(), 1);
    }
}
