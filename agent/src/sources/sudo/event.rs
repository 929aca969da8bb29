//! What sudo tells of a command, out of its messages.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::message::{self, Accept, Exit, Info, Reject, Time};

/// One thing that sudo tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: Kind,
    /// sudo's own keys: `submituser`, `runuser`, `command`, `runargv` …
    pub info: BTreeMap<String, Value>,
    /// Unix nanoseconds; 0 where it does not say.
    pub time: u64,
    /// Of which host; `None` of this one.
    pub remote: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The command may run, and is about to.
    Accept,
    /// The policy refuses it.
    Reject { reason: String },
    /// Something else is wrong, such as a broken sudoers file.
    Alert { reason: String },
    /// An accepted command has ended; `info` is that of its acceptance.
    Exit { value: i32, signal: String, error: String, dumped_core: bool, run_time_ms: u64 },
}

/// Most keys and elements of lists that are kept: a command line may have more, which are counted.
pub(super) const LIST_MAX: usize = 1024;

/// Never kept: the environment is full of secrets and says nothing of the act.
pub(super) const ENVIRONMENT: &[&str] = &["submitenv", "runenv"];

impl Event {
    pub(super) fn accept(accept: Accept, remote: Option<IpAddr>) -> Self {
        Self { kind: Kind::Accept, time: nanoseconds(accept.submit_time), info: info(accept.info), remote }
    }

    pub(super) fn reject(reject: Reject, remote: Option<IpAddr>) -> Self {
        let kind = Kind::Reject { reason: reject.reason };
        Self { kind, time: nanoseconds(reject.time), info: info(reject.info), remote }
    }

    pub(super) fn alert(alert: Reject, remote: Option<IpAddr>) -> Self {
        let kind = Kind::Alert { reason: alert.reason };
        Self { kind, time: nanoseconds(alert.time), info: info(alert.info), remote }
    }

    /// The end of an accepted command.
    pub(super) fn exit(&self, exit: Exit) -> Self {
        let run_time = nanoseconds(exit.run_time);
        let Exit { exit_value: value, dumped_core, signal, error, .. } = exit;
        let kind = Kind::Exit { value, signal, error, dumped_core, run_time_ms: run_time / 1_000_000 };
        Self { kind, time: self.time.saturating_add(run_time), info: self.info.clone(), remote: self.remote }
    }

    /// A key's text; of a number, its digits.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.info.get(key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<u32> {
        self.info.get(key)?.as_u64().and_then(|number| u32::try_from(number).ok())
    }
}

fn nanoseconds(time: Option<Time>) -> u64 {
    let Some(Time { seconds, nanoseconds }) = time else { return 0 };
    let seconds = u64::try_from(seconds).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(nanoseconds).unwrap_or_default())
}

fn info(list: Vec<Info>) -> BTreeMap<String, Value> {
    let kept = list.into_iter().filter(|info| !ENVIRONMENT.contains(&info.key.as_str())).take(LIST_MAX);
    kept.filter_map(|Info { key, value }| Some((key, plain(value?)))).collect()
}

fn plain(value: message::Value) -> Value {
    match value {
        message::Value::Number(number) => number.into(),
        message::Value::Text(text) => text.into(),
        message::Value::Texts(texts) => texts.list.into_iter().take(LIST_MAX).collect(),
        message::Value::Numbers(numbers) => numbers.list.into_iter().take(LIST_MAX).collect(),
    }
}
