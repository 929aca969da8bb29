//! The text of a mapping's value: `{user.name|user}` stands for the first of these fields that says something.
//!
//! After each `:` follows what is done to it: `pascal`, `lower`, `upper`, `host` (an address without its port), `path` and
//! `query` (of a request's target), `name` (what follows the last `/`), `stem` (without a last `_ERROR`), `failure` (the
//! name of what an outcome or status says went wrong, nothing where it went well), `failed` (`Failed` for what says that
//! there is an error), `nonzero` (nothing where it is 0 or less). `{{` is a brace.
//! Nothing is evaluated: a template is data.

use serde_json::{Map, Value};

use super::address::host;
use super::fields;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { paths: Vec<String>, filters: Vec<Filter> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Pascal,
    Lower,
    Upper,
    Host,
    Path,
    Query,
    Name,
    Stem,
    Failure,
    Failed,
    Nonzero,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` has a brace that is not closed: write `{{{{` for a brace itself")]
    Open(String),
    #[error("`{0}` names no field: write `{{field}}` or `{{one|other}}`")]
    Empty(String),
    #[error("`:{0}` is no filter: use pascal, lower, upper, host, path, query, name, stem, failure, failed or nonzero")]
    Filter(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let (field, behind) = after.split_once('}').ok_or_else(|| TemplateError::Open(text.to_owned()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(field_part(field, text)?);
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text; `None` where one of its fields says nothing.
    pub fn fill(&self, fields: &Map<String, Value>) -> Option<String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field { paths, filters } => {
                    let text = fields::text(first(fields, paths)?)?;
                    filled.push_str(&filters.iter().try_fold(text, |text, filter| filter.apply(&text))?);
                }
            }
        }
        Some(filled)
    }

    /// The value: a field's own where the template is nothing but that, else the text.
    pub fn value(&self, fields: &Map<String, Value>) -> Option<Value> {
        match self.0.as_slice() {
            [Part::Field { paths, filters }] if filters.is_empty() => first(fields, paths).cloned(),
            _ => self.fill(fields).filter(|text| !text.is_empty()).map(Value::from),
        }
    }

    /// Of these fields those that its text says whole, but for upper and lower case.
    pub fn told<'a>(&'a self, fields: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|part| match part {
            Part::Field { paths, filters } => {
                let path = paths.iter().find(|path| fields::said(fields, path).is_some())?;
                let value = fields::said(fields, path).filter(|value| !value.is_array())?;
                let text = fields::text(value)?;
                let made = filters.iter().try_fold(text.clone(), |text, filter| filter.apply(&text))?;
                let is_case = filters.iter().all(|filter| matches!(filter, Filter::Pascal | Filter::Lower | Filter::Upper));
                (is_case || made == text).then_some(path.as_str())
            }
            Part::Text(_) => None,
        })
    }

    /// The text where it names no field.
    pub fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

fn first<'a>(fields: &'a Map<String, Value>, paths: &[String]) -> Option<&'a Value> {
    paths.iter().find_map(|path| fields::said(fields, path))
}

fn field_part(field: &str, whole: &str) -> Result<Part, TemplateError> {
    let mut steps = field.split(':');
    let paths = steps.next().unwrap_or_default();
    let filters = steps.map(Filter::parse).collect::<Result<_, _>>()?;
    let paths: Vec<String> = paths.split('|').map(|path| path.trim().to_owned()).collect();
    if paths.iter().any(String::is_empty) {
        return Err(TemplateError::Empty(whole.to_owned()));
    }
    Ok(Part::Field { paths, filters })
}

impl Filter {
    fn parse(name: &str) -> Result<Self, TemplateError> {
        Ok(match name.trim() {
            "pascal" => Self::Pascal,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "host" => Self::Host,
            "path" => Self::Path,
            "query" => Self::Query,
            "name" => Self::Name,
            "stem" => Self::Stem,
            "failure" => Self::Failure,
            "failed" => Self::Failed,
            "nonzero" => Self::Nonzero,
            other => return Err(TemplateError::Filter(other.to_owned())),
        })
    }

    fn apply(self, text: &str) -> Option<String> {
        Some(match self {
            Self::Pascal => pascal(text),
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            Self::Host => host(text).to_owned(),
            Self::Path => text.split_once('?').map_or(text, |(path, _)| path).to_owned(),
            Self::Query => text.split_once('?')?.1.to_owned(),
            Self::Stem => text.strip_suffix("_ERROR").unwrap_or(text).to_owned(),
            Self::Failure => failure(text)?.to_owned(),
            Self::Failed => (!is_no_error(text)).then(|| "Failed".to_owned())?,
            Self::Nonzero => text.parse::<i64>().map_or(true, |number| number > 0).then(|| text.to_owned())?,
            Self::Name => text.trim_end_matches('/').rsplit('/').next()?.to_owned(),
        })
        .filter(|text| !text.is_empty())
    }
}

/// `user_created`, `user-created`, `USER CREATED` and `userCreated` as `UserCreated`.
pub fn pascal(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let is_loud = word.chars().all(|c| !c.is_lowercase());
        let mut chars = word.chars();
        made.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        if is_loud { made.extend(chars.flat_map(char::to_lowercase)) } else { made.push_str(chars.as_str()) }
    }
    made
}

/// What an outcome says went wrong: a name, or an error's HTTP status.
fn failure(text: &str) -> Option<&str> {
    let lower = text.trim().to_lowercase();
    match lower.as_str() {
        "denied" | "deny" | "forbidden" | "unauthorized" | "unauthorised" | "unauthenticated" | "refused" | "blocked"
        | "rejected" | "access denied" | "accessdenied" | "not allowed" | "permission denied" => Some("AccessDenied"),
        "failure" | "failed" | "fail" | "error" | "unsuccessful" | "false" => Some("Failed"),
        _ => lower.parse::<u16>().ok().filter(|status| (400..600).contains(status)).map(|_| text),
    }
}

/// How programs write that there is no error.
fn is_no_error(text: &str) -> bool {
    matches!(
        text.trim().to_lowercase().as_str(),
        "" | "false" | "none" | "null" | "nil" | "<nil>" | "0" | "no" | "ok" | "success"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_filled_in_and_a_missing_one_leaves_nothing() {
        let Value::Object(fields) =
            json!({"e": "user_created", "u": {"n": "alice"}, "a": "[2001:db8::1]:443", "t": "/x/y?z=1", "n": 7})
        else {
            unreachable!()
        };
        let fill = |text: &str| Template::parse(text).unwrap().fill(&fields);
        assert_eq!(fill("{e:upper:pascal}").as_deref(), Some("UserCreated"));
        assert_eq!(fill("user/{x|u.n}").as_deref(), Some("user/alice"));
        assert_eq!(fill("{a:host}").as_deref(), Some("2001:db8::1"));
        assert_eq!((fill("{t:path}").as_deref(), fill("{t:query}").as_deref()), (Some("/x/y"), Some("z=1")));
        assert_eq!((fill("{t:name}").as_deref(), fill("{{{n}}}").as_deref()), (Some("y?z=1"), Some("{7}}")));
        assert_eq!((fill("{missing}"), fill("").as_deref()), (None, Some("")));
        assert_eq!(Template::parse("{n}").unwrap().value(&fields), Some(json!(7)));
        for wrong in ["{open", "{}", "{a:shout}", "{a|}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_become_one_word() {
        for (text, expected) in [("LOGIN_ERROR", "LoginError"), ("s3.GetObject", "S3GetObject"), ("a b-c", "ABC"), ("", "")] {
            assert_eq!(pascal(text), expected);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_templates_never_panic(text in "[{}|:a-z.]{0,20}|\\PC{0,20}") {
            if let Ok(template) = Template::parse(&text) {
                let _either = template.fill(&Map::new());
            }
        }
    }
}
