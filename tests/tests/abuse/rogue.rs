//! An agent that joined rightfully and then misbehaves: real credentials, real TLS, real gRPC, its own chain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_agent::enroll::{Enrollment, Join, join};
use edgetrail_link::body::{Encoder, frame};
use edgetrail_link::uplink::{Endpoint, channel};
use edgetrail_link::wire::ingest_client::IngestClient;
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::chain::{BatchKind, Binding, Cause, Counters, Hash, Open, Ratchet, SealInput, Seed, Writer};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{succeed, text};
use rcgen::{KeyPair, SigningKey};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "dc-local-1";

/// A token, as `token create` gives it.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) url: String,
    pub(crate) pin: String,
}

pub(crate) fn token(deployment: &Deployment, arguments: &[&str]) -> Token {
    let mut create = deployment.collector_command();
    create.args(["token", "create", "--region", REGION, "-o", "json"]).args(arguments);
    if !arguments.contains(&"--account") {
        create.args(["--account", ACCOUNT]);
    }
    let output = succeed(&mut create);
    let token: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let member = |name: &str| token[name].as_str().unwrap().to_owned();
    Token { text: member("token"), url: member("url"), pin: member("ca_pin") }
}

/// Joins with a token into a directory.
pub(crate) async fn join_with(token: &Token, directory: &Path, host: &str) -> Result<(), String> {
    let (url, pin) = (token.url.parse().unwrap(), token.pin.parse().unwrap());
    let joined = join(&Join { directory, url: &url, token: &token.text, pin, host }).await;
    joined.map(drop).map_err(|error| error.to_string())
}

pub(crate) struct Rogue {
    pub(crate) enrollment: Enrollment,
    pub(crate) key: KeyPair,
    pub(crate) endpoint: Endpoint,
    _directory: Option<tempfile::TempDir>,
}

impl Rogue {
    pub(crate) async fn join(deployment: &Deployment) -> Self {
        let directory = tempfile::tempdir().unwrap();
        join_with(&token(deployment, &[]), directory.path(), "rogue").await.unwrap();
        let mut rogue = Self::of(directory.path(), deployment);
        rogue._directory = Some(directory);
        rogue
    }

    /// Whoever has a state directory can act as its agent.
    pub(crate) fn of(state: &Path, deployment: &Deployment) -> Self {
        let enrollment = Enrollment::load(state).unwrap().unwrap();
        let key = KeyPair::try_from(enrollment.tls.key.secret_der()).unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: deployment.ingest_port() };
        Self { enrollment, key, endpoint, _directory: None }
    }

    pub(crate) fn agent(&self) -> AgentId {
        self.enrollment.identity.agent_id
    }

    pub(crate) async fn attach(&self) -> Result<Conversation, String> {
        let credentials = self.enrollment.credentials().unwrap();
        let channel = channel(&self.endpoint, Arc::clone(&credentials.tls)).await.map_err(|error| format!("{error:?}"))?;
        let (to_collector, queue) = mpsc::channel(64);
        let attached = IngestClient::new(channel).attach(ReceiverStream::new(queue)).await;
        Ok(Conversation { to_collector, inbound: attached.map_err(|status| status.to_string())?.into_inner() })
    }

    /// Attaches and names nothing.
    pub(crate) async fn resumed(&self) -> Conversation {
        let mut conversation = self.attach().await.unwrap();
        conversation.say(from_agent::Message::Resume(wire::Resume::default())).await;
        let answer = conversation.hear().await;
        assert!(matches!(answer, Some(from_collector::Message::Resumed(_))), "{answer:?}");
        conversation
    }

    /// Attaches and opens a stream.
    pub(crate) async fn opened(&self, stream: &RogueStream) -> Conversation {
        let mut conversation = self.resumed().await;
        conversation.say(from_agent::Message::Opening(stream.opening.clone())).await;
        let answer = conversation.hear().await;
        assert!(matches!(answer, Some(from_collector::Message::Opened(_))), "{answer:?}");
        conversation
    }

    pub(crate) fn stream(&self) -> RogueStream {
        self.stream_as(self.agent(), ACCOUNT)
    }

    /// An open in the name of this agent and account, rightfully or not.
    pub(crate) fn stream_as(&self, agent: AgentId, account: &str) -> RogueStream {
        let stream = StreamId::from_bytes(*uuid::Uuid::now_v7().as_bytes());
        let binding = Binding::one(account.parse().unwrap(), REGION.parse().unwrap(), "rogue").unwrap();
        let ratchet = Ratchet::new(stream, 0, Seed(zeroize::Zeroizing::new([7; 32])));
        let chain = &self.enrollment.tls.chain;
        let open = Open {
            stream,
            agent,
            first_key: ratchet.public_key(),
            predecessor: None,
            cause: Cause::Join,
            t_opened: now_ns(),
            binding: binding.hash(),
            certificate: Hash::of(&chain[0]),
        };
        let opening = wire::Opening {
            open: open.encode().to_vec().into(),
            binding: binding.to_bytes().into(),
            signature: self.key.sign(&open.encode()).unwrap().into(),
            certificate_chain: chain.iter().map(|der| der.to_vec().into()).collect(),
            fork: false,
        };
        RogueStream { writer: Writer::begin(&open, ratchet), opening }
    }
}

#[derive(Clone)]
pub(crate) struct RogueStream {
    pub(crate) writer: Writer,
    pub(crate) opening: wire::Opening,
}

impl RogueStream {
    /// The next batch of the chain, of records with these names.
    pub(crate) fn batch(&mut self, names: &[&str]) -> wire::Batch {
        let records: Vec<String> = names.iter().map(|name| record(ACCOUNT, name)).collect();
        self.batch_of(&records)
    }

    pub(crate) fn batch_of(&mut self, records: &[String]) -> wire::Batch {
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
        let now = now_ns();
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind: if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records },
            leaves: &leaves,
            boot_id: [1; 16],
            t_sealed: now,
            t_min: now,
            t_max: now,
            counters: Counters { observed: self.writer.next_seq() + leaves.len() as u64, ..Counters::default() },
            last_receipt: Hash::ZERO,
        });
        self.writer = writer;
        let mut body = Vec::new();
        records.iter().for_each(|record| frame(&mut body, record.as_bytes()));
        let body_bytes = u32::try_from(body.len()).unwrap();
        let (encoding, body) = Encoder::new().unwrap().encode(body);
        wire::Batch {
            header: sealed.header.encode().to_vec().into(),
            seal: sealed.seal.0.to_vec().into(),
            encoding: encoding.to_wire(),
            body: body.into(),
            body_bytes,
            caller_waits: true,
            named_receipts: Vec::new(),
            fork: false,
        }
    }
}

/// One attach, spoken by hand.
pub(crate) struct Conversation {
    pub(crate) to_collector: mpsc::Sender<wire::FromAgent>,
    inbound: Streaming<wire::FromCollector>,
}

impl Conversation {
    pub(crate) async fn say(&mut self, message: from_agent::Message) {
        // A session that has ended reads nothing more; what it said is heard below.
        drop(self.to_collector.send(wire::FromAgent { message: Some(message) }).await);
    }

    pub(crate) async fn batch(&mut self, batch: wire::Batch) {
        self.say(from_agent::Message::Batch(batch)).await;
    }

    /// The next message; `None` once the collector has ended the session.
    pub(crate) async fn hear(&mut self) -> Option<from_collector::Message> {
        let heard = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("an answer in time");
        heard.ok().flatten().and_then(|message| message.message)
    }

    pub(crate) async fn receipted(&mut self) {
        let answer = self.hear().await;
        assert!(matches!(answer, Some(from_collector::Message::Receipt(_))), "{answer:?}");
    }

    pub(crate) async fn refused(&mut self, reason: wire::RefusalReason) {
        match self.hear().await {
            Some(from_collector::Message::Refusal(refusal)) => {
                assert_eq!(refusal.reason(), reason, "{}", refusal.message);
                assert!(self.hear().await.is_none(), "nothing follows a refusal");
            }
            other => panic!("no refusal but {other:?}"),
        }
    }
}

pub(crate) fn record(account: &str, name: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"sudo.linux","eventName":"{name}","awsRegion":"{REGION}","eventCategory":"Management","managementEvent":true,"readOnly":false,"eventType":"AwsApiCall","recipientAccountId":"{account}"}}"#
    )
}

pub(crate) fn now_ns() -> u64 {
    u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// A runtime of the test's own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    built.unwrap().block_on(future)
}
