//! logfmt: `name=value` and `name="value"`, separated by spaces, or by commas and spaces; a name alone is true.

use serde_json::{Map, Value};

/// Most members of a line; what follows them is not read.
const MEMBERS_MAX: usize = 256;

/// The members of a line; `None` where there is not one with a value. The first of two like names stands.
pub fn parse(line: &str) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    let (mut valued, mut is_listed) = (false, false);
    let mut rest = line.trim_start();
    while !rest.is_empty() && members.len() < MEMBERS_MAX {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        let Some(after) = after.strip_prefix('=') else {
            if name != "," {
                members.entry(name.to_owned()).or_insert(Value::Bool(true));
            }
            rest = after.trim_start();
            continue;
        };
        if name.is_empty() || name.contains(['"', '{', '}']) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let word = after.find(char::is_whitespace).unwrap_or(after.len());
                // Where commas separate, a value may hold spaces.
                let end = if is_listed { listed_end(after).max(word) } else { word };
                let (value, after) = after.split_at_checked(end)?;
                is_listed |= !valued && value.ends_with(',');
                (value.strip_suffix(',').unwrap_or(value).to_owned(), after)
            }
        };
        // As Java's programs write nothing.
        let value = if value == "null" { Value::Null } else { Value::String(value) };
        members.entry(name.to_owned()).or_insert(value);
        valued = true;
        is_listed |= after.starts_with(',');
        rest = after.trim_start();
    }
    valued.then_some(members)
}

/// Where the value ends that a comma and the next `name=` follow; the comma is part of it.
fn listed_end(text: &str) -> usize {
    let is_pair = |at: &usize| {
        let next = text.get(at + 2..).unwrap_or_default().trim_start();
        next.find(['=', ' ', ',']).is_some_and(|end| end > 0 && next.get(end..).is_some_and(|rest| rest.starts_with('=')))
    };
    text.match_indices(", ").map(|(at, _)| at).find(is_pair).map_or(text.len(), |at| at + 1)
}

/// What stands before the closing quote, unescaped, and what follows it.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_read_bare_quoted_and_alone() {
        let members = parse(r#"level=info msg="say \"hi\"" debug empty= user=alice@example.org"#).unwrap();
        let expected = json!({"level": "info", "msg": "say \"hi\"", "debug": true, "empty": "", "user": "alice@example.org"});
        assert_eq!(Value::Object(members), expected);
        let members = parse(r#"type="LOGIN_ERROR", realmId=master, error="bad""#).unwrap();
        assert_eq!(Value::Object(members), json!({"type": "LOGIN_ERROR", "realmId": "master", "error": "bad"}));
        for text in ["", "words only", r#"a="open"#, r#"{"a"=1}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,60}|[a-z= \"\\\\]{0,60}") {
            let _either = parse(&line);
        }
    }
}
