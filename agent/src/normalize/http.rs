//! Words of HTTP in records, whoever saw the request: a log's line or the proxy.

use serde_json::{Map, Value, json};

use crate::sources::percent::decoded_form;

/// Parameters of a query that are kept one by one.
const QUERY_PARAMETERS_MAX: usize = 128;

/// Status codes and the names of them as errors. Source: IANA's registry; 401 and 407 are refused authentication, 499 nginx's.
const ERRORS: &[(u16, &str)] = &[
    (400, "BadRequest"),
    (401, "AccessDenied"),
    (402, "PaymentRequired"),
    (403, "AccessDenied"),
    (404, "NotFound"),
    (405, "MethodNotAllowed"),
    (406, "NotAcceptable"),
    (407, "AccessDenied"),
    (408, "RequestTimeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "LengthRequired"),
    (412, "PreconditionFailed"),
    (413, "ContentTooLarge"),
    (414, "UriTooLong"),
    (415, "UnsupportedMediaType"),
    (416, "RangeNotSatisfiable"),
    (417, "ExpectationFailed"),
    (421, "MisdirectedRequest"),
    (422, "UnprocessableContent"),
    (423, "Locked"),
    (424, "FailedDependency"),
    (426, "UpgradeRequired"),
    (428, "PreconditionRequired"),
    (429, "TooManyRequests"),
    (431, "RequestHeaderFieldsTooLarge"),
    (451, "UnavailableForLegalReasons"),
    (499, "ClientClosedRequest"),
    (500, "InternalServerError"),
    (501, "NotImplemented"),
    (502, "BadGateway"),
    (503, "ServiceUnavailable"),
    (504, "GatewayTimeout"),
];

/// A status that is an error as its name.
pub(super) fn status_name(status: u16) -> String {
    let known = ERRORS.iter().find(|(code, _)| *code == status).map(|(_, name)| (*name).to_owned());
    known.unwrap_or_else(|| format!("Status{status}"))
}

/// A query's values by name, decoded; several of one name are a list.
pub(super) fn query_of(query: &str) -> Value {
    let mut members: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(QUERY_PARAMETERS_MAX) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = Value::from(decoded_form(value));
        let name = decoded_form(name);
        match members.get_mut(name.as_ref()) {
            None => drop(members.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Value::Object(members)
}

/// Whether a method only reads. Source: RFC 9110 §9.2.1, the safe methods.
pub(super) fn reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_by_name_and_decoded() {
        assert_eq!(query_of("a=1&b=x%20y+z&a=2&c&%zz=%ff"), json!({"a": ["1", "2"], "b": "x y z", "c": "", "%zz": "%ff"}));
    }
}
