//! What is asked: one action on one resource, and what is known of who asks, whence and when.
//!
//! Keys are compared without case, as IAM does. A context keeps its bounds by itself and says when it was given more:
//! such a request is allowed nothing, since a value that was cut could miss a deny.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::{ACTION_BYTES_MAX, CONTEXT_BYTES_MAX, RESOURCE_BYTES_MAX, STEPS_MAX, VALUE_BYTES_MAX};

/// One act on one resource. An operation on several resources is a request for each.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `cloudtrail:GetTrail`; the case of letters does not matter.
    pub action: &'a str,
    /// An ARN, or `*` for an operation that knows no single resource.
    pub resource: &'a str,
    pub context: &'a Context,
}

impl Request<'_> {
    /// Whether it is short enough to be compared. Longer names exist nowhere.
    pub(crate) fn is_bounded(&self) -> bool {
        self.action.len() <= ACTION_BYTES_MAX && self.resource.len() <= RESOURCE_BYTES_MAX && !self.context.overflowed
    }
}

/// Condition keys and their values: `aws:username` → `alice`. A key without values is a key that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
    bytes: usize,
    overflowed: bool,
}

impl Context {
    /// Sets a key's values, in place of former ones. Dates are RFC 3339 or Unix seconds, addresses without a port.
    pub fn set<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        let key = key.to_lowercase();
        if let Some(former) = self.values.remove(&key) {
            self.bytes -= size(&key, &former);
        }
        let mut taken: Vec<String> = Vec::new();
        let mut bytes = self.bytes + key.len();
        for value in values {
            let value = value.into();
            // An empty value costs something, too.
            bytes += value.len() + 1;
            if value.len() > VALUE_BYTES_MAX || bytes > CONTEXT_BYTES_MAX {
                self.overflowed = true;
                return;
            }
            taken.push(value);
        }
        if !taken.is_empty() {
            self.bytes = bytes;
            self.values.insert(key, taken);
        }
    }
}

/// A context while one decision is made, and the work that is left for it.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    context: &'a Context,
    pub steps_left: Cell<usize>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Self { context, steps_left: Cell::new(STEPS_MAX) }
    }

    /// The values of a key that is in lower case already; none where it is not there.
    pub(crate) fn get(&self, key: &str) -> &'a [String] {
        self.context.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Counts work beside that of patterns.
    pub(crate) fn spend(&self, steps: usize) {
        self.steps_left.set(self.steps_left.get().saturating_sub(steps));
    }

    /// Whether nothing is left: whatever was compared since means nothing.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.steps_left.get() == 0
    }
}

fn size(key: &str, values: &[String]) -> usize {
    key.len() + values.iter().map(|value| value.len() + 1).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_no_case_and_the_last_values_stand() {
        let mut context = Context::default();
        context.set("aws:UserName", ["alice", "carol"]);
        context.set("AWS:username", ["bob"]);
        assert_eq!(Known::new(&context).get("aws:username"), ["bob"]);
        context.set("aws:username", Vec::<String>::new());
        assert_eq!(context, Context::default());
    }

    #[test]
    fn more_than_the_bounds_is_noticed_and_stays_noticed() {
        let request = |context: &Context| Request { action: "sts:X", resource: "*", context }.is_bounded();
        let mut context = Context::default();
        context.set("aws:UserAgent", ["a".repeat(VALUE_BYTES_MAX)]);
        assert!(request(&context));
        context.set("aws:UserAgent", ["a".repeat(VALUE_BYTES_MAX + 1)]);
        assert!(!request(&context));
        context.set("aws:UserAgent", ["a"]);
        assert!(!request(&context));
        let mut context = Context::default();
        context.set("aws:TagKeys", vec![""; CONTEXT_BYTES_MAX]);
        assert!(!request(&context), "empty values count");
    }
}
