//! Which bucket and key a request names: in its path, or the bucket in its host.

use edgetrail_sigv4::percent::{self, Plus};
use http::request::Parts;

use crate::api::event::host_of;

/// Both decoded. An empty bucket is the service itself, an empty key the bucket itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub bucket: String,
    pub key: String,
}

/// A host names a bucket only if it begins with one that exists: `collector.example.org` is no bucket `collector`.
pub(super) fn addressed(head: &Parts, buckets: &[String]) -> Address {
    let path = head.uri.path().strip_prefix('/').unwrap_or_default();
    let host = host_of(head).unwrap_or_default();
    let in_host = buckets.iter().find(|bucket| host.strip_prefix(bucket.as_str()).is_some_and(|rest| rest.starts_with('.')));
    match in_host {
        Some(bucket) => Address { bucket: bucket.clone(), key: decoded(path) },
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            Address { bucket: decoded(bucket), key: decoded(key) }
        }
    }
}

/// A key that is not UTF-8 names no object: what replaces its bytes can't stand in a key.
fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode(text.as_bytes(), Plus::Literal)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str, host: &str) -> (String, String) {
        let head = http::Request::get(uri).header("host", host).body(()).unwrap().into_parts().0;
        let address = addressed(&head, &["edgetrail".to_owned()]);
        (address.bucket, address.key)
    }

    #[test]
    fn both_styles_name_the_same_object() {
        let expected = ("edgetrail".to_owned(), "AWSLogs/a b".to_owned());
        assert_eq!(at("/edgetrail/AWSLogs/a%20b", "localhost:8443"), expected);
        assert_eq!(at("/AWSLogs/a%20b", "edgetrail.localhost:8443"), expected);
    }

    #[test]
    fn a_host_that_is_no_bucket_leaves_the_path() {
        assert_eq!(at("/edgetrail", "edgetrailer.example:8443"), ("edgetrail".to_owned(), String::new()));
        assert_eq!(at("/", "127.0.0.1:8443"), (String::new(), String::new()));
        assert_eq!(at("/b//c", "h"), ("b".to_owned(), "/c".to_owned()));
    }
}
