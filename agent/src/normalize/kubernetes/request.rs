//! What a request's address and objects say beyond its `objectRef`.

use serde_json::Value;

use crate::sources::kubernetes::Audit;

/// The command and container of exec and attach, the ports of portforward: they stand in the address alone.
pub(super) fn arguments(uri: &str, subresource: &str) -> Vec<(String, Value)> {
    if !matches!(subresource, "exec" | "attach" | "portforward") {
        return Vec::new();
    }
    let query = uri.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let values = |wanted: &str| -> Vec<Value> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| decoded(name) == wanted).map(|(_, value)| decoded(value).into()).collect()
    };
    let mut arguments = Vec::new();
    for (name, values) in [("command", values("command")), ("ports", values("ports"))] {
        if !values.is_empty() {
            arguments.push((name.to_owned(), Value::Array(values)));
        }
    }
    arguments.extend(values("container").into_iter().next().map(|container| ("container".to_owned(), container)));
    arguments
}

/// The address without the words of a command: they are `command`, where redaction knows them as a command line. `None`
/// where it has none.
pub(super) fn without_command(uri: &str, subresource: &str) -> Option<String> {
    let (path, query) = uri.split_once('?').filter(|_| subresource == "exec")?;
    let is_word = |pair: &str| pair.split_once('=').is_some_and(|(name, _)| decoded(name) == "command");
    if !query.split('&').any(is_word) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').map(|pair| if is_word(pair) { "command=" } else { pair }).collect();
    Some(format!("{path}?{}", kept.join("&")))
}

/// The name that an object was given, of one that was created without: from the response, else the request.
pub(super) fn made_name(audit: &Audit<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Option<Metadata>,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        name: Option<String>,
    }
    if audit.verb != "create" {
        return None;
    }
    [audit.response_object, audit.request_object].into_iter().flatten().find_map(|raw| {
        let object: Object = serde_json::from_str(raw.get()).ok()?;
        object.metadata?.name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
    })
}

/// Longest name, in bytes. Source: Kubernetes' DNS subdomain names.
const NAME_BYTES_MAX: usize = 253;

/// Text of a query: `%41` and `+` decoded, what is no code left as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
        rest = behind;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_read_from_the_address() {
        let uri = "/api/v1/namespaces/a/pods/b/exec?command=sh&command=-c&command=echo+a%2Fb%zz&container=c&stdin=true";
        let arguments = arguments(uri, "exec");
        assert_eq!(arguments[0], ("command".to_owned(), json!(["sh", "-c", "echo a/b%zz"])));
        assert_eq!(arguments[1], ("container".to_owned(), json!("c")));
        assert!(super::arguments(uri, "log").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_decoded(text in "\\PC{0,40}", codes in "[%+0-9a-g]{0,20}") {
            let _unread = (decoded(&text), decoded(&codes), arguments(&text, "exec"), without_command(&text, "exec"));
        }
    }
}
