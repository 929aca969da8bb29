//! Posted events and lines of files as records.
//!
//! The hot path: members are copied as the JSON texts that they were, nothing is parsed into a tree. Of a post, the
//! actor is the peer that the kernel names, or whose token was shown, and the body's userIdentity is kept as a claim beside it; of a followed
//! file, which only its writer can write, the line's own userIdentity stands.

use std::collections::HashMap;
use std::sync::Arc;

use edgetrail_proto::limits::{
    ADDITIONAL_BYTES_MAX, JSON_DEPTH_MAX, PARAMETERS_BYTES_MAX, RECORD_BYTES_MAX, STRING_FIELD_BYTES_MAX,
};
use edgetrail_proto::record::{Record, UserIdentity, format_time};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::actor::{Actor, Person};
use super::names::Names;
use super::{Host, Made};
use crate::observation::SourceName;
use crate::sources::api::{Peer, Post, Remote, Sender, Trace};
use crate::sources::event::{Event, EventError};

/// Writes records of events; keeps what is the same for many of them.
#[derive(Debug)]
pub struct Writer {
    /// `,"awsRegion":"…"` and so on: constant parts, ready to copy.
    region: String,
    account: String,
    host_name: String,
    /// The start of `additionalEventData.edgetrail`, one a source.
    mark_api: String,
    mark_file: String,
    /// Identities of recent senders, as JSON.
    peers: HashMap<Sender, Arc<PeerText>>,
    /// The last second that was formatted.
    second: (u64, String),
}

#[derive(Debug)]
struct PeerText {
    identity: String,
    /// The member `peer`: uid, gid, pid, exe; or the token's name and the address.
    peer: String,
    user_agent: Option<String>,
    /// Where it is another than this host.
    address: Option<String>,
}

/// Peers remembered at once: a host's programs that post.
const PEERS_MAX: usize = 256;

/// Longest original that is kept beside its record, in bytes: with its escapes it stays below additionalEventData's limit.
const RAW_BYTES_MAX: usize = ADDITIONAL_BYTES_MAX / 4;

/// Who vouches for the event.
pub(super) enum Origin<'a> {
    Post(&'a Post),
    File(&'a str),
}

impl Writer {
    pub fn new(host: &Host) -> Self {
        let quoted = |text: &str| Value::from(text).to_string();
        let mark = |source: SourceName| {
            format!("\"edgetrail\":{{\"agent\":\"{}\",\"host\":{},\"source\":\"{source}\"", host.agent, quoted(&host.name))
        };
        Self {
            region: quoted(host.region.as_str()),
            account: quoted(host.account.as_str()),
            host_name: quoted(&host.name),
            mark_api: mark(SourceName::Api),
            mark_file: mark(SourceName::File),
            peers: HashMap::new(),
            second: (u64::MAX, String::new()),
        }
    }

    /// The record of one event. `time` in Unix nanoseconds.
    pub(super) fn write(
        &mut self,
        host: &Host,
        names: &mut Names,
        bytes: &[u8],
        origin: &Origin<'_>,
        event_id: Uuid,
        time: u64,
    ) -> Result<Made, EventError> {
        let event = Event::parse(bytes)?;
        let time = event.event_time.and_then(crate::sources::event::time_ns).unwrap_or(time);
        let peer = match origin {
            Origin::Post(post) => Some(self.peer(host, names, &post.sender)),
            Origin::File(_) => None,
        };
        let mut text = Text(Vec::with_capacity(bytes.len() + 768));
        text.raw("{\"eventVersion\":\"1.11\",\"userIdentity\":");
        match (&peer, event.user_identity) {
            (Some(peer), _) => text.raw(&peer.identity),
            (None, Some(own)) => text.compact(own),
            (None, None) => text.raw("{\"type\":\"Unknown\"}"),
        }
        text.raw(",\"eventTime\":\"");
        let second = self.formatted(time);
        text.raw(second);
        text.raw("\"");
        text.member("eventSource", Some(event.event_source));
        text.member("eventName", Some(event.event_name));
        text.member("awsRegion", Some(&self.region));
        let address = peer.as_deref().and_then(|peer| peer.address.as_deref()).unwrap_or(&self.host_name);
        text.member("sourceIPAddress", Some(event.source_ip_address.unwrap_or(address)));
        text.member("userAgent", event.user_agent.or(peer.as_deref().and_then(|peer| peer.user_agent.as_deref())));
        text.member("errorCode", event.error_code);
        text.member("errorMessage", event.error_message);
        text.member("requestParameters", Some(event.request_parameters.unwrap_or("null")));
        text.member("responseElements", Some(event.response_elements.unwrap_or("null")));
        self.additional(&mut text, host, &event, origin, peer.as_deref(), bytes);
        text.member("requestID", event.request_id);
        text.raw(",\"eventID\":\"");
        text.raw(event_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        text.raw("\"");
        text.member("readOnly", Some(event.read_only.unwrap_or("false")));
        text.member("resources", event.resources);
        text.member("eventType", Some(event.event_type.unwrap_or("\"AwsApiCall\"")));
        text.member("apiVersion", event.api_version);
        let is_data = event.event_category == Some("\"Data\"");
        text.member("managementEvent", Some(if is_data { "false" } else { "true" }));
        text.member("recipientAccountId", Some(&self.account));
        text.member("serviceEventDetails", event.service_event_details);
        text.member("sharedEventID", event.shared_event_id);
        text.member("eventCategory", Some(event.event_category.unwrap_or("\"Management\"")));
        text.member("tlsDetails", event.tls_details);
        for (name, value) in &event.unknown {
            text.member(name, Some(value));
        }
        text.raw("}");
        Ok(made(text.0, &event))
    }

    /// additionalEventData: the client's own members, then `edgetrail`, which no client can write.
    fn additional(
        &self,
        text: &mut Text,
        host: &Host,
        event: &Event<'_>,
        origin: &Origin<'_>,
        peer: Option<&PeerText>,
        bytes: &[u8],
    ) {
        text.raw(",\"additionalEventData\":{");
        if let Some(own) = event.additional_event_data {
            let before = text.0.len();
            if memchr::memmem::find(own.as_bytes(), b"\"edgetrail\"").is_some() || own.contains("\\u") {
                let mut members: Map<String, Value> = serde_json::from_str(own).unwrap_or_default();
                if let Some(claimed) = members.remove("edgetrail") {
                    members.insert("claimedEdgetrail".to_owned(), claimed);
                }
                let rewritten = Value::Object(members).to_string();
                text.raw(inner(&rewritten));
            } else {
                text.compact(inner(own));
            }
            if text.0.len() > before {
                text.raw(",");
            }
        }
        if let Origin::Post(Post { trace: Some(trace), .. }) = origin
            && !event.additional_event_data.is_some_and(names_trace)
        {
            text.trace(trace);
        }
        match (origin, peer) {
            (Origin::Post(_), Some(peer)) => {
                text.raw(&self.mark_api);
                text.member("peer", Some(&peer.peer));
                text.member("claimedUserIdentity", event.user_identity);
            }
            (Origin::File(path), _) => {
                text.raw(&self.mark_file);
                text.member("file", Some(&Value::from(*path).to_string()));
            }
            (Origin::Post(_), None) => {}
        }
        // What the agent decides is said once more where the event says otherwise.
        for (name, claimed, actual) in
            [("claimedRegion", event.aws_region, &self.region), ("claimedAccount", event.recipient_account_id, &self.account)]
        {
            text.member(name, claimed.filter(|claimed| claimed != actual));
        }
        text.member("clientID", event.client_id);
        if host.keep_raw {
            text.member("raw", Some(&raw(bytes)));
        }
        text.raw("}}");
    }

    fn peer(&mut self, host: &Host, names: &mut Names, sender: &Sender) -> Arc<PeerText> {
        if let Some(known) = self.peers.get(sender) {
            return Arc::clone(known);
        }
        let made = Arc::new(match sender {
            Sender::Process(peer) => process(host, names, peer),
            Sender::Network(remote) => network(host, remote),
        });
        if self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        self.peers.insert(sender.clone(), Arc::clone(&made));
        made
    }

    fn formatted(&mut self, time: u64) -> &str {
        let second = time / 1_000_000_000;
        if self.second.0 != second {
            self.second = (second, format_time(time));
        }
        &self.second.1
    }
}

/// A process of this host acts: as its login user, or as a daemon.
fn process(host: &Host, names: &mut Names, peer: &Peer) -> PeerText {
    let mut person = |uid| Person { uid, name: names.user(uid) };
    let program = peer.program().unwrap_or("unknown");
    let actor = Actor::of(peer.login_uid.map(&mut person), person(peer.uid), &format!("{program}.linux"));
    let exe = peer.exe.as_deref().unwrap_or("unknown");
    PeerText {
        identity: identity_text(&actor.identity(host)),
        peer: json!({"uid": peer.uid, "gid": peer.gid, "pid": peer.pid, "exe": exe, "session": peer.session}).to_string(),
        user_agent: Some(Value::from(exe).to_string()),
        address: None,
    }
}

/// Whoever holds a token acts: a service by the token's name.
fn network(host: &Host, remote: &Remote) -> PeerText {
    let identity = UserIdentity {
        kind: Some("AWSService".to_owned()),
        principal_id: Some(remote.name.to_string()),
        account_id: Some(host.account.to_string()),
        invoked_by: Some(remote.name.to_string()),
        ..UserIdentity::default()
    };
    let address = remote.address.to_canonical();
    PeerText {
        identity: identity_text(&identity),
        peer: json!({"token": *remote.name, "address": address}).to_string(),
        user_agent: None,
        address: (!address.is_loopback()).then(|| Value::from(address.to_string()).to_string()),
    }
}

/// Whether a client's own additionalEventData may name a trace.
fn names_trace(own: &str) -> bool {
    own.contains("\"trace_") || own.contains("\"span_id") || own.contains("\\u")
}

/// The original as a JSON value; too long a one by its size and hash.
pub(super) fn raw_value(bytes: &[u8]) -> Value {
    if bytes.len() <= RAW_BYTES_MAX {
        return Value::from(String::from_utf8_lossy(bytes));
    }
    let hash = hex::encode(Sha256::digest(bytes));
    json!({"omitted": true, "edgetrailBytes": bytes.len(), "edgetrailSha256": hash})
}

/// The original as a JSON string; too long a one by its size and hash.
fn raw(bytes: &[u8]) -> String {
    raw_value(bytes).to_string()
}

fn identity_text(identity: &UserIdentity) -> String {
    serde_json::to_string(identity).unwrap_or_else(|_| "{\"type\":\"Unknown\"}".to_owned())
}

/// The members of an object's text without its braces.
fn inner(object: &str) -> &str {
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
}

/// As it stands where every limit is kept; else read again and cut to size.
fn made(text: Vec<u8>, event: &Event<'_>) -> Made {
    let over = |member: Option<&str>, limit: usize| member.is_some_and(|raw| raw.len() > limit);
    let must_fit = text.len() > RECORD_BYTES_MAX
        || [event.request_parameters, event.response_elements, event.service_event_details]
            .into_iter()
            .any(|member| over(member, PARAMETERS_BYTES_MAX))
        || [event.user_agent, event.error_code, event.error_message, event.request_id]
            .into_iter()
            .any(|member| over(member, STRING_FIELD_BYTES_MAX))
        // What the agent and the client say of themselves is small beside half of the limit.
        || over(event.additional_event_data, ADDITIONAL_BYTES_MAX / 4)
        || over(event.user_identity, ADDITIONAL_BYTES_MAX / 4);
    if !must_fit {
        return Made::Written(text);
    }
    match Record::from_json(&text) {
        Ok(mut record) => {
            record.fit();
            Made::Record(Box::new(record))
        }
        // Not reached: an event of at most EVENT_BYTES_MAX makes a readable record. Were it, ingest names it.
        Err(_) => Made::Written(text),
    }
}

/// A record's JSON text under way.
struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// `,"name":value`, nothing where there is no value. `name` is JSON text already.
    fn member(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.raw(",\"");
            self.raw(name);
            self.raw("\":");
            self.compact(value);
        }
    }

    /// The members of a trace, each with a comma behind it. Ids are hexadecimal.
    fn trace(&mut self, trace: &Trace) {
        let Trace { trace_id, span_id, flags, state } = trace;
        self.raw(&format!("\"trace_id\":\"{trace_id}\",\"span_id\":\"{span_id}\",\"trace_flags\":\"{flags}\","));
        if let Some(state) = state {
            self.raw(&format!("\"trace_state\":{},", Value::from(state.as_str())));
        }
    }

    /// JSON text without the white space between its tokens.
    fn compact(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        // Most have none at all, and are copied as they are.
        if !rest.iter().fold(false, |any, byte| any | byte.is_ascii_whitespace()) {
            return self.0.extend_from_slice(rest);
        }
        while let Some(quote) = memchr::memchr(b'"', rest) {
            let (before, string) = rest.split_at(quote);
            self.tokens(before);
            let end = string_end(string);
            let (string, after) = string.split_at(end);
            self.0.extend_from_slice(string);
            rest = after;
        }
        self.tokens(rest);
    }

    fn tokens(&mut self, text: &[u8]) {
        if text.iter().any(u8::is_ascii_whitespace) {
            self.0.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
        } else {
            self.0.extend_from_slice(text);
        }
    }
}

/// Where the JSON string that `text` begins with ends, its quotes included.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        match text.get(at) {
            Some(b'"') => return at + 1,
            _ => at += 2,
        }
    }
    text.len()
}

/// The records of a line in CloudTrail's own format: the record itself, or those of `{"Records":[…]}`.
pub(super) fn foreign(line: &[u8]) -> Result<Vec<&[u8]>, EventError> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, rename = "Records")]
        records: Vec<&'a serde_json::value::RawValue>,
    }
    let text = crate::sources::event::utf8(line)?.trim_ascii();
    crate::sources::event::check_depth(text, JSON_DEPTH_MAX)?;
    let head = text.strip_prefix('{').unwrap_or(text).trim_ascii_start();
    let records: Vec<&str> = if head.starts_with("\"Records\"") {
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| crate::sources::event::syntax(text, &error))?;
        envelope.records.into_iter().map(serde_json::value::RawValue::get).collect()
    } else {
        let record: &serde_json::value::RawValue =
            serde_json::from_str(text).map_err(|error| crate::sources::event::syntax(text, &error))?;
        vec![record.get()]
    };
    match records.iter().find(|record| !record.starts_with('{')) {
        Some(_) => Err(EventError::Value { path: "$", why: "is no record: give CloudTrail's JSON objects".to_owned() }),
        None => Ok(records.into_iter().map(str::as_bytes).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(json: &str, origin: &Origin<'_>) -> (String, Made) {
        let host = Host::for_tests();
        let made = Writer::new(&host)
            .write(&host, &mut Names::default(), json.as_bytes(), origin, Uuid::from_u128(1), 1_700_000_000_000_000_000)
            .unwrap();
        let bytes = match &made {
            Made::Record(record) => record.to_json(),
            Made::Written(bytes) | Made::Foreign(bytes) => bytes.clone(),
        };
        (String::from_utf8(bytes).unwrap(), made)
    }

    fn post(sender: Sender) -> Post {
        Post { event: bytes::Bytes::new(), sender, trace: None }
    }

    fn peer() -> Post {
        let exe = Some("/usr/bin/billing".to_owned());
        post(Sender::Process(Peer { uid: 0, gid: 0, pid: 9, exe, login_uid: None, session: None }))
    }

    fn remote(address: &str) -> Post {
        let trace =
            Trace { trace_id: "4b".repeat(16), span_id: "b7".repeat(8), flags: "01".to_owned(), state: Some("a=\"1".to_owned()) };
        let sender = Sender::Network(Remote { name: "shop".into(), address: address.parse().unwrap() });
        Post { trace: Some(Arc::new(trace)), ..post(sender) }
    }

    const FULL: &str = r#" { "eventSource" : "billing.example", "eventName": "CreateInvoice", "eventTime": "2026-01-31T12:00:00.5Z",
        "userIdentity": {"type":"IAMUser","userName":"mallory"}, "sourceIPAddress":"192.0.2.7", "userAgent":"curl \"8\"",
        "errorCode":"AccessDenied", "errorMessage":"no", "requestParameters": { "a b" : [ 1 , 2.50, "x  y\\" ] }, "responseElements": null,
        "additionalEventData": { "k" : 1 }, "requestID":"r", "id":"mine", "readOnly": true, "resources":[{"ARN":"arn:x","type":"A::B"}],
        "eventType":"AwsApiCall", "apiVersion":"1", "eventCategory":"Data", "awsRegion":"elsewhere", "recipientAccountId":"111122223333",
        "custom": [ "kept" ] } "#;

    #[test]
    fn what_is_written_is_what_the_record_type_would_write() {
        for origin in [Origin::Post(&peer()), Origin::Post(&remote("192.0.2.9")), Origin::File("/var/log/x.json")] {
            for json in [FULL, r#"{"eventSource":"a.b","eventName":"C"}"#] {
                let (text, made) = write(json, &origin);
                assert!(matches!(made, Made::Written(_)));
                assert_eq!(text, String::from_utf8(Record::from_json(text.as_bytes()).unwrap().to_json()).unwrap());
            }
        }
    }

    #[test]
    fn the_peer_is_the_actor_and_the_body_only_claims() {
        let (text, _) = write(FULL, &Origin::Post(&peer()));
        let record = Record::from_json(text.as_bytes()).unwrap();
        assert_eq!(record.user_identity.kind.as_deref(), Some("AWSService"));
        assert_eq!(record.user_identity.invoked_by.as_deref(), Some("billing.linux"));
        assert_eq!(record.aws_region, "dc-local-1");
        assert_eq!(record.event_time, "2026-01-31T12:00:00Z");
        let mark = &record.additional_event_data.unwrap()["edgetrail"];
        assert_eq!(mark["peer"]["exe"], "/usr/bin/billing");
        assert_eq!(mark["claimedUserIdentity"]["userName"], "mallory");
        assert_eq!(mark["claimedRegion"], "elsewhere");
        assert_eq!(mark["claimedAccount"], Value::Null, "a claim that holds is not repeated");
    }

    #[test]
    fn over_the_network_the_token_names_the_actor_and_the_request_its_trace() {
        let (text, _) = write(r#"{"eventSource":"a.b","eventName":"C"}"#, &Origin::Post(&remote("192.0.2.9")));
        let record = Record::from_json(text.as_bytes()).unwrap();
        assert_eq!(record.user_identity.invoked_by.as_deref(), Some("shop"));
        assert_eq!(record.source_ip_address, "192.0.2.9");
        let data = record.additional_event_data.unwrap();
        assert_eq!((data["trace_id"].as_str(), data["trace_state"].as_str()), (Some("4b".repeat(16).as_str()), Some("a=\"1")));
        assert_eq!(data["edgetrail"]["peer"]["token"], "shop");
        // What the event itself says of its trace is more than what its request says.
        let own = r#"{"eventSource":"a.b","eventName":"C","additionalEventData":{"trace_id":"own"}}"#;
        let (text, _) = write(own, &Origin::Post(&remote("127.0.0.1")));
        let record = Record::from_json(text.as_bytes()).unwrap();
        assert_eq!(record.additional_event_data.unwrap()["trace_id"], "own");
        assert_eq!(record.source_ip_address, "web-1");
    }

    #[test]
    fn the_deepest_event_makes_a_record_that_is_read_back() {
        let levels = crate::sources::event::EVENT_DEPTH_MAX - 2;
        let deep = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let json = format!(r#"{{"eventSource":"a.b","eventName":"C","userIdentity":{{"x":{deep}}}}}"#);
        let (text, _) = write(&json, &Origin::Post(&peer()));
        assert!(text.contains(&deep) && Record::from_json(text.as_bytes()).is_ok(), "{text}");
    }

    #[test]
    fn a_lines_own_identity_stands_and_none_is_unknown() {
        let (text, _) = write(FULL, &Origin::File("/f"));
        assert!(text.contains(r#""userIdentity":{"type":"IAMUser","userName":"mallory"}"#), "{text}");
        let (text, _) = write(r#"{"eventSource":"a.b","eventName":"C"}"#, &Origin::File("/f"));
        assert!(text.contains(r#""userIdentity":{"type":"Unknown"}"#), "{text}");
    }

    #[test]
    fn nobody_writes_the_agents_mark() {
        for own in [r#"{"edgetrail":{"source":"audit"}}"#, r#"{"edgetrai\u006c":{"source":"audit"}}"#] {
            let json = format!(r#"{{"eventSource":"a.b","eventName":"C","additionalEventData":{own}}}"#);
            let (text, _) = write(&json, &Origin::Post(&peer()));
            let record = Record::from_json(text.as_bytes()).unwrap();
            let data = record.additional_event_data.unwrap();
            assert_eq!(data["edgetrail"]["source"], "api", "{text}");
            assert_eq!(data["claimedEdgetrail"]["source"], "audit", "{text}");
        }
    }

    #[test]
    fn large_members_are_cut_with_size_and_hash() {
        let json = format!(r#"{{"eventSource":"a.b","eventName":"C","requestParameters":{{"x":"{}"}}}}"#, "y".repeat(700_000));
        let (text, made) = write(&json, &Origin::File("/f"));
        assert!(matches!(made, Made::Record(_)));
        assert!(text.len() < 2000 && text.contains("\"omitted\":true"), "{text}");
    }

    #[test]
    fn foreign_records_keep_their_bytes() {
        let line = br#" {"Records":[{"eventVersion":"1.08", "x":1},{"eventVersion":"1.09"}]} "#;
        let records = foreign(line).unwrap();
        assert_eq!(records, [&br#"{"eventVersion":"1.08", "x":1}"#[..], br#"{"eventVersion":"1.09"}"#]);
        assert_eq!(foreign(b"{\"a\": 1}").unwrap(), [b"{\"a\": 1}"]);
        assert!(foreign(b"{\"Records\":[1]}").is_err());
        assert!(foreign(b"[1]").is_err());
    }

    proptest! {
        #[test]
        fn whatever_the_values_what_is_written_reads_back_the_same(
            key in "\\PC{0,8}", value in "\\PC{0,20}", number in any::<f64>(), spaces in "[ \n\t]{0,3}",
        ) {
            let json = format!(
                "{spaces}{{\"eventSource\":{spaces}\"a.b\",\"eventName\":{},\"requestParameters\":{{{spaces}{}:{spaces}[{},{}]}}}}",
                Value::from(format!("N{value}")), Value::from(key), Value::from(value.clone()), Value::from(number),
            );
            let (text, _) = write(&json, &Origin::File("/f"));
            prop_assert_eq!(&text, &String::from_utf8(Record::from_json(text.as_bytes()).unwrap().to_json()).unwrap());
        }

        #[test]
        fn arbitrary_lines_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _unread = foreign(&bytes);
        }
    }
}
