//! Percent-encoding of paths and queries. Source: RFC 3986 §2.1, and the `+` of HTML forms.

use std::borrow::Cow;

/// `%41` as `A`; what is no UTF-8 afterwards stays as it was.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') { decode(text, false) } else { Cow::Borrowed(text) }
}

/// The same of a form's or query's part: `+` is a space.
pub fn decoded_form(text: &str) -> Cow<'_, str> {
    if text.contains(['%', '+']) { decode(text, true) } else { Cow::Borrowed(text) }
}

fn decode(text: &str, is_form: bool) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut made = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, value) {
            (_, Some(value)) => {
                made.push(value);
                at += 2;
            }
            (b'+', None) if is_form => made.push(b' '),
            (other, None) => made.push(*other),
        }
        at += 1;
    }
    String::from_utf8(made).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_what_is_malformed_stays() {
        for (text, path, form) in
            [("a%20b+c", "a b+c", "a b c"), ("%zz%4", "%zz%4", "%zz%4"), ("%ff", "%ff", "%ff"), ("%+1", "%+1", "% 1")]
        {
            assert_eq!((decoded(text).as_ref(), decoded_form(text).as_ref()), (path, form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,20}|[%0-9a-f+]{0,20}") {
            let _both = (decoded(&text), decoded_form(&text));
        }
    }
}
