//! PutAuditEvents over a real socket with the unmodified AWS CLI, the test as the agent's pipeline.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::normalize::names::Names;
use crate::normalize::{Host, Made, Normalizer, audit};
use crate::sources::api::tests::binding;
use crate::sources::api::{ApiSource, Config};
use crate::sources::listener::tests::{loopback, post};

const KEY: &str = "AKIAGATEWAY000000001";
const SECRET: &str = "a secret of the shop's own";
const CHANNEL: &str = "arn:aws:cloudtrail:dc-local-1:111122223333:channel/shop";
const FOREIGN_CHANNEL: &str = "arn:aws:cloudtrail:dc-local-1:444455556666:channel/shop";

/// A running source whose pipeline commits what comes, and what it was given.
struct Gateway {
    address: std::net::SocketAddr,
    taken: tokio::sync::mpsc::Receiver<Observation>,
    stop: CancellationToken,
    dir: tempfile::TempDir,
    tasks: tokio::task::JoinSet<()>,
}

/// What becomes of everything in a test's pipeline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipeline {
    Commits,
    IsFull,
}

impl Gateway {
    async fn start(pipeline: Pipeline) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        write("shop.secret", SECRET);
        let access_keys = write("keys", &format!("{KEY} shop shop.secret\n"));
        let channel = |arn: &str, external_id: Option<&str>| ChannelConfig {
            arn: edgetrail_settings::Parsed(arn.parse().unwrap()),
            external_id: external_id.map(str::to_owned),
        };
        let config = Config {
            listen: loopback(),
            access_keys: Some(access_keys),
            channels: vec![
                channel(CHANNEL, None),
                channel(FOREIGN_CHANNEL, None),
                channel(&format!("{CHANNEL}-2"), Some("them")),
            ],
            ..Config::default()
        };
        assert_eq!(config.trouble(), None);
        let source = ApiSource::open(&config, dir.path(), &binding()).await.unwrap();
        let address = source.network.as_ref().unwrap().listener.addresses()[0];
        let (intake, mut outlet) = observation::intake();
        let (sender, taken) = tokio::sync::mpsc::channel(1024);
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let run = source.run(intake, stop.clone());
        tasks.spawn(async move { run.await.unwrap() });
        tasks.spawn(async move {
            let agent = Host::for_tests().agent;
            while let Some(group) = outlet.recv().await {
                for mut observation in group {
                    let event_id = edgetrail_proto::chain::event_id(agent, "api", &observation.position, 0);
                    let outcome = match pipeline {
                        Pipeline::Commits => Outcome::Committed { event_ids: vec![event_id] },
                        Pipeline::IsFull => Outcome::Unavailable { retry_after_s: 1 },
                    };
                    observation.answer.take().unwrap().0.send(outcome).unwrap();
                    sender.send(observation).await.unwrap();
                }
            }
        });
        Self { address, taken, stop, dir, tasks }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// `aws cloudtrail-data put-audit-events`, with these events of a file.
    async fn put(&self, caller: &Caller<'_>, channel: &str, events: &Value, more: &[&str]) -> Output {
        let file = self.dir.path().join("events.json");
        std::fs::write(&file, events.to_string()).unwrap();
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
        let cli: PathBuf = venv.join("aws");
        assert!(cli.is_file(), "{} is missing: run `make setup`", cli.display());
        let mut command = tokio::process::Command::new(cli);
        command
            .args(["cloudtrail-data", "put-audit-events", "--channel-arn", channel, "--output", "json"])
            .args(["--audit-events", &format!("file://{}", file.display())])
            .args(["--endpoint-url", &format!("http://{}", self.address)])
            .args(more)
            .env_clear()
            .env("PATH", format!("{}:{}", venv.display(), std::env::var("PATH").unwrap_or_default()))
            .env("HOME", "/nonexistent")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_DEFAULT_REGION", "dc-local-1")
            .env("AWS_ACCESS_KEY_ID", caller.key)
            .env("AWS_SECRET_ACCESS_KEY", caller.secret);
        command.output().await.unwrap()
    }
}

struct Caller<'a> {
    key: &'a str,
    secret: &'a str,
}

const SHOP: Caller<'_> = Caller { key: KEY, secret: SECRET };

fn event_data(more: Value) -> String {
    let mut event = json!({
        "version": "1.0", "userIdentity": {"type": "User", "principalId": "carol"}, "UID": "uid-1",
        "eventSource": "shop.example", "eventName": "CancelOrder", "eventTime": "2026-01-31T12:00:00",
        "recipientAccountId": "111122223333", "requestParameters": {"order": 7},
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.to_string()
}

fn refused(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(&format!("({code})")), "{code}: {text}");
}

fn skipped() -> bool {
    let skipped = std::env::var_os("EDGETRAIL_SKIP_AWSCLI").is_some();
    if skipped {
        eprintln!("SKIPPED by EDGETRAIL_SKIP_AWSCLI: PutAuditEvents is not tried with the AWS CLI");
    }
    skipped
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_puts_events_and_is_told_of_each() {
    if skipped() {
        return;
    }
    let mut gateway = Gateway::start(Pipeline::Commits).await;
    let good = event_data(json!({"sourceIPAddress": "203.0.113.9"}));
    let events = json!([
        {"id": "one", "eventData": good},
        {"id": "two", "eventData": event_data(json!({"recipientAccountId": "444455556666"}))},
        {"id": "three", "eventData": event_data(json!({"errorMessage": "e".repeat(257)}))},
        {"id": "four", "eventData": "{}"},
        {"id": "five", "eventData": good, "eventDataChecksum": "AAAA"},
    ]);
    let output = gateway.put(&SHOP, CHANNEL, &events, &[]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let observation = gateway.taken.recv().await.unwrap();
    let event_id = edgetrail_proto::chain::event_id(Host::for_tests().agent, "api", &observation.position, 0);
    assert_eq!(answer["successful"], json!([{"eventID": event_id.to_string(), "id": "one"}]));
    let failed: Vec<(&str, &str)> = answer["failed"].as_array().unwrap().iter().filter_map(id_and_code).collect();
    let expected =
        [("two", "InvalidRecipient"), ("three", "FieldTooLong"), ("four", "FieldNotFound"), ("five", "InvalidChecksum")];
    assert_eq!(failed, expected);
    // The record: Lake's members around the event's own bytes.
    assert_eq!(observation.position, format!("{CHANNEL} shop:one"));
    let mut normalizer = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default());
    let [draft] = <[_; 1]>::try_from(normalizer.normalize(&observation)).unwrap();
    let Made::Foreign(bytes) = draft.record else { panic!("not kept as it came") };
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(&format!("\"eventData\":{good}")), "{text}");
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&record["eventCategory"], &record["eventType"], &record["metadata"]["channelARN"]),
        (&json!("ActivityAuditLog"), &json!("ActivityLog"), &json!(CHANNEL))
    );
    assert_eq!((&record["eventID"], &record["eventTime"]), (&json!(event_id.to_string()), &json!("2026-01-31T12:00:00Z")));
    assert_eq!(
        record["additionalEventData"]["edgetrail"]["signer"],
        json!({"principal": "shop", "accessKeyId": KEY, "sourceIPAddress": "127.0.0.1"})
    );
    let facets = edgetrail_proto::facets::Facets::parse(&bytes).unwrap();
    assert_eq!((facets.source.as_str(), facets.name.as_str()), ("shop.example", "CancelOrder"));
    assert_eq!((facets.user.as_deref(), facets.account.as_str()), (Some("carol"), "111122223333"));
    // A retry is the same event.
    let again = gateway.put(&SHOP, CHANNEL, &json!([{"id": "one", "eventData": good}]), &[]).await;
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["successful"][0]["eventID"], json!(event_id.to_string()));
    gateway.stop().await;
}

fn id_and_code(entry: &Value) -> Option<(&str, &str)> {
    Some((entry["id"].as_str()?, entry["errorCode"].as_str()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_aws_cli_may_not_is_refused_by_its_name() {
    if skipped() {
        return;
    }
    let mut gateway = Gateway::start(Pipeline::Commits).await;
    let one = json!([{"id": "one", "eventData": event_data(json!({}))}]);
    let stranger = Caller { key: "AKIAGATEWAY000000002", secret: SECRET };
    refused(&gateway.put(&stranger, CHANNEL, &one, &[]).await, "UnrecognizedClientException");
    let guesser = Caller { key: KEY, secret: "not the secret of the shop" };
    refused(&gateway.put(&guesser, CHANNEL, &one, &[]).await, "InvalidSignatureException");
    refused(&gateway.put(&SHOP, &format!("{CHANNEL}-3"), &one, &[]).await, "ChannelNotFound");
    refused(&gateway.put(&SHOP, "arn:aws:s3:::bucket", &one, &[]).await, "InvalidChannelARN");
    refused(&gateway.put(&SHOP, FOREIGN_CHANNEL, &one, &[]).await, "ChannelInsufficientPermission");
    let guarded = format!("{CHANNEL}-2");
    refused(&gateway.put(&SHOP, &guarded, &one, &[]).await, "ChannelInsufficientPermission");
    let twice = json!([one[0], one[0]]);
    refused(&gateway.put(&SHOP, CHANNEL, &twice, &[]).await, "DuplicatedAuditEventId");
    let many: Vec<Value> = (0..101).map(|n| json!({"id": format!("e{n}"), "eventData": "{}"})).collect();
    refused(&gateway.put(&SHOP, CHANNEL, &many.into(), &[]).await, "ValidationException");
    let large = json!([{"id": "one", "eventData": "x".repeat(REQUEST_BYTES_MAX)}]);
    refused(&gateway.put(&SHOP, CHANNEL, &large, &[]).await, "RequestEntityTooLargeException");
    assert!(gateway.taken.try_recv().is_err(), "nothing of all that was taken");
    let known = gateway.put(&SHOP, &guarded, &one, &["--external-id", "them"]).await;
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_is_a_503_that_clients_come_back_from() {
    if skipped() {
        return;
    }
    let gateway = Gateway::start(Pipeline::IsFull).await;
    let one = json!([{"id": "one", "eventData": event_data(json!({}))}]);
    refused(&gateway.put(&SHOP, CHANNEL, &one, &[]).await, "ServiceUnavailable");
    gateway.stop().await;
}

/// A request as botocore signs it, at a time of the test's choosing.
fn signed_at(address: std::net::SocketAddr, seconds: u64, body: &str) -> (String, Vec<(String, String)>) {
    let query =
        format!("channelArn={}", edgetrail_sigv4::percent::encode(CHANNEL.as_bytes(), edgetrail_sigv4::percent::Slash::Encode));
    let uri = format!("http://{address}{PATH}?{query}");
    let identity = aws_credential_types::Credentials::from_keys(KEY, SECRET, None).into();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("dc-local-1")
        .name(SERVICE)
        .time(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
        .settings(aws_sigv4::http_request::SigningSettings::default())
        .build()
        .unwrap();
    let host = address.to_string();
    let signable = aws_sigv4::http_request::SignableRequest::new(
        "POST",
        &uri,
        [("host", host.as_str())].into_iter(),
        aws_sigv4::http_request::SignableBody::Bytes(body.as_bytes()),
    )
    .unwrap();
    let (instructions, _) = aws_sigv4::http_request::sign(signable, &params.into()).unwrap().into_parts();
    let headers = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (format!("{PATH}?{query}"), headers)
}

#[tokio::test]
async fn a_skewed_clock_or_another_body_is_refused_and_the_signed_one_taken() {
    let mut gateway = Gateway::start(Pipeline::Commits).await;
    let body = json!({"auditEvents": [{"id": "one", "eventData": event_data(json!({}))}]}).to_string();
    let now = unix_ns() / 1_000_000_000;
    for (seconds, sent, status) in [
        (now, body.as_str(), 200),
        (now - edgetrail_sigv4::PAST_SECONDS_MAX - 60, &body, 403),
        (now + edgetrail_sigv4::FUTURE_SECONDS_MAX + 60, &body, 403),
        (now, &body.replace("carol", "mallo"), 403),
    ] {
        let (path, headers) = signed_at(gateway.address, seconds, &body);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (answered, _, reply) = post(gateway.address, &path, &headers, sent.as_bytes().to_vec(), false).await;
        assert_eq!(answered.as_u16(), status, "{}", String::from_utf8_lossy(&reply));
    }
    assert!(gateway.taken.recv().await.is_some() && gateway.taken.try_recv().is_err());
    // Nothing but signed requests is taken where there are no tokens.
    let (answered, _, _) =
        post(gateway.address, "/v1/events", &[], br#"{"eventSource":"a.b","eventName":"C"}"#.to_vec(), false).await;
    assert_eq!(answered, http::StatusCode::UNAUTHORIZED);
    let (answered, headers, _) = post(gateway.address, PATH, &[], b"{}".to_vec(), false).await;
    assert_eq!((answered.as_u16(), headers["x-amzn-errortype"].to_str().unwrap()), (403, "MissingAuthenticationTokenException"));
    gateway.stop().await;
}
