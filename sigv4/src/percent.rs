//! Percent-encoding as SigV4 and S3 define it (RFC 3986 §2.1, unreserved characters bare, upper-case hex).
//!
//! Works on bytes: a key or a query value need not be UTF-8, and decoding never fails. A `%` that is not followed by
//! two hex digits stands for itself.

/// Whether `+` in the input means a space, as in a query string, or itself, as in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    Space,
    Literal,
}

/// Whether `/` separates (a path) or is data (a query).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slash {
    Keep,
    Encode,
}

pub fn decode(input: &[u8], plus: Plus) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                output.push((hex_value(*high) << 4) | hex_value(*low));
                rest = after;
                continue;
            }
            (b'+', _) if plus == Plus::Space => output.push(b' '),
            _ => output.push(byte),
        }
        rest = tail;
    }
    output
}

pub fn encode(input: &[u8], slash: Slash) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut output = String::with_capacity(input.len());
    for &byte in input {
        let bare =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || (byte == b'/' && slash == Slash::Keep);
        if bare {
            output.push(char::from(byte));
        } else {
            output.push('%');
            for nibble in [byte >> 4, byte & 0x0f] {
                output.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
            }
        }
    }
    output
}

/// The decoded pairs of a query string or form, in order. An absent `=` is an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name.as_bytes(), Plus::Space), decode(value.as_bytes(), Plus::Space))
    })
}

/// The first value of `name`, where it is UTF-8.
pub fn value_of(query: &str, name: &str) -> Option<String> {
    pairs(query).find(|(found, _)| found == name.as_bytes()).and_then(|(_, value)| String::from_utf8(value).ok())
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stray_percent_stands_for_itself() {
        assert_eq!(decode(b"100%", Plus::Literal), b"100%");
        assert_eq!(decode(b"%zz%4", Plus::Literal), b"%zz%4");
        assert_eq!(decode(b"a+b%2F", Plus::Space), b"a b/");
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(encode(&bytes, Slash::Encode).as_bytes(), Plus::Space), bytes.clone());
            prop_assert_eq!(decode(encode(&bytes, Slash::Keep).as_bytes(), Plus::Literal), bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".*") {
            decode(&bytes, Plus::Space);
            pairs(&text).count();
        }
    }
}
