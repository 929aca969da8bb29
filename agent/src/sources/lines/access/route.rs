//! Routes: which operation a method and path are. `POST /v1/invoices/{id}/pay` is `PayInvoice`.

use serde_json::{Map, Value};

use crate::sources::lines::shape::RouteShape;
use crate::sources::lines::template::pascal;

/// A compiled route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// In capitals; empty means any.
    methods: Vec<String>,
    segments: Vec<Segment>,
    name: Option<String>,
    pub path: String,
    pub category: Option<String>,
    /// eventType.
    pub kind: Option<String>,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One(String),
    Rest(String),
}

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("the route `{0}` does not begin with `/`")]
    NotAbsolute(String),
    #[error("the route `{0}`: only the last segment may be `{{name...}}`")]
    RestInside(String),
    #[error("the route `{path}`: category is Management or Data, not `{word}`")]
    Category { path: String, word: String },
    #[error("the route `{path}`: type is AwsApiCall, AwsServiceEvent, AwsConsoleAction or AwsConsoleSignIn, not `{word}`")]
    Type { path: String, word: String },
}

impl Route {
    pub fn new(shape: &RouteShape) -> Result<Self, RouteError> {
        let RouteShape { method, path, name, category, kind, read_only } = shape;
        let inside = path.strip_prefix('/').ok_or_else(|| RouteError::NotAbsolute(path.clone()))?;
        let segments: Vec<Segment> = inside.split('/').map(segment).collect();
        let is_rest = |segment: &Segment| matches!(segment, Segment::Rest(_));
        if segments.iter().rev().skip(1).any(is_rest) {
            return Err(RouteError::RestInside(path.clone()));
        }
        if let Some(word) = category.clone().filter(|word| !matches!(word.as_str(), "Management" | "Data")) {
            return Err(RouteError::Category { path: path.clone(), word });
        }
        let types = ["AwsApiCall", "AwsServiceEvent", "AwsConsoleAction", "AwsConsoleSignIn"];
        if let Some(word) = kind.clone().filter(|word| !types.contains(&word.as_str())) {
            return Err(RouteError::Type { path: path.clone(), word });
        }
        let methods = method.iter().flat_map(|method| method.split(',')).map(|method| method.trim().to_uppercase()).collect();
        let (path, category, kind, read_only) = (path.clone(), category.clone(), kind.clone(), *read_only);
        Ok(Self { methods, segments, name: name.clone(), path, category, kind, read_only })
    }

    /// The values of the path's parameters; `None` where the route is another.
    pub fn matches(&self, method: &str, path: &str) -> Option<Map<String, Value>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|known| known.eq_ignore_ascii_case(method)) {
            return None;
        }
        let mut found = Map::new();
        let mut given = path.strip_prefix('/')?.split('/');
        for segment in &self.segments {
            match segment {
                Segment::Rest(name) => {
                    let rest: Vec<&str> = given.by_ref().collect();
                    found.insert(name.clone(), Value::from(rest.join("/")));
                    return Some(found);
                }
                Segment::Literal(text) => (given.next()? == text).then_some(())?,
                Segment::One(name) => {
                    let value = given.next().filter(|value| !value.is_empty())?;
                    found.insert(name.clone(), Value::from(value));
                }
            }
        }
        given.next().is_none().then_some(found)
    }

    /// The eventName: as configured, else of method and path, parameters left out.
    pub fn event_name(&self, method: &str) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let words = self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(text) => Some(pascal(text)),
            Segment::One(_) | Segment::Rest(_) => None,
        });
        format!("{}{}", pascal(&method.to_lowercase()), words.collect::<String>())
    }
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) => match name.strip_suffix("...").or_else(|| name.strip_prefix('*')) {
            Some(name) => Segment::Rest(name.to_owned()),
            None => Segment::One(name.to_owned()),
        },
        None => Segment::Literal(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(method: &str, path: &str, name: Option<&str>) -> Result<Route, RouteError> {
        let method = (!method.is_empty()).then(|| method.to_owned());
        Route::new(&RouteShape {
            method,
            path: path.to_owned(),
            name: name.map(str::to_owned),
            category: None,
            kind: None,
            read_only: None,
        })
    }

    #[test]
    fn a_route_knows_its_requests_names_them_and_takes_their_parameters() {
        let pay = route("POST", "/v1/invoices/{id}/pay", Some("PayInvoice")).unwrap();
        assert_eq!(pay.matches("POST", "/v1/invoices/I-7/pay"), json!({"id": "I-7"}).as_object().cloned());
        for (method, path) in [("GET", "/v1/invoices/I-7/pay"), ("POST", "/v1/invoices//pay"), ("POST", "/v1/invoices/I-7/pay/x")]
        {
            assert_eq!(pay.matches(method, path), None, "{method} {path}");
        }
        assert_eq!(pay.event_name("POST"), "PayInvoice");
        let files = route("get, head", "/files/{path...}", None).unwrap();
        assert_eq!(files.matches("HEAD", "/files/a/b"), json!({"path": "a/b"}).as_object().cloned());
        assert_eq!(files.event_name("GET"), "GetFiles");
        assert!(route("", "/x", None).unwrap().matches("PURGE", "/x").is_some());
        assert!(route("", "x", None).is_err() && route("", "/{a...}/b", None).is_err());
    }
}
