//! A collector's ingest with its ledger, control store and PKI; and agents that joined it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgetrail_link::body::{Encoder, frame};
use edgetrail_link::outbox::Opening;
use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls;
use edgetrail_link::uplink::{Credentials, Endpoint, channel};
use edgetrail_link::wire::enrollment_server::Enrollment;
use edgetrail_link::wire::ingest_client::IngestClient;
use edgetrail_link::wire::{self, JoinRelayRequest, JoinRequest, from_agent, from_collector};
use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Open, Predecessor, Ratchet, Receipt, ReceiptSigner, SealInput, SealedBatch, Seed,
    Writer,
};
use edgetrail_proto::identity::{AgentId, AgentIdentity, StreamId};
use edgetrail_proto::merkle::leaf_hash;
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::control::{Control, NewRelayToken, NewToken};
use crate::ingest::batch::Received;
use crate::ingest::{Ingest, Relays};
use crate::internal::{Home, Internal};
use crate::ledger::{Bringer, EntryRecord, EvidenceBound, Incoming, Ledger, LedgerOptions, StreamInfo};
use crate::pki::{EnrollmentOptions, EnrollmentService, Pki};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "dc-local-1";

/// No answer takes longer; a test that waits this long fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) ledger: Ledger,
    pub(crate) control: Control,
    pub(crate) pki: Pki,
    pub(crate) endpoint: Endpoint,
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), false, EvidenceBound::default()).await
    }

    /// With an internal stream, whose records stand in the ledger too.
    pub(crate) async fn recording() -> Self {
        Self::recording_in(tempfile::tempdir().unwrap()).await
    }

    /// The same over what lies in the directory.
    pub(crate) async fn recording_in(directory: tempfile::TempDir) -> Self {
        Self::start_in(directory, true, EvidenceBound::default()).await
    }

    /// The same, which keeps no more of a fork than this.
    pub(crate) async fn keeping(evidence: EvidenceBound) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), true, evidence).await
    }

    async fn start_in(directory: tempfile::TempDir, recording: bool, evidence: EvidenceBound) -> Self {
        let control = Control::open(directory.path()).unwrap();
        let domain = crate::pki::TRUST_DOMAIN_DEFAULT.parse().unwrap();
        let pki = Pki::open(&directory.path().join("pki"), domain, &[], control.revoked()).unwrap();
        let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
        options.evidence = evidence;
        options.former_keys = pki.own_receipt_keys();
        let (ledger, task) = Ledger::open(&directory.path().join("ledger"), options).unwrap();
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let ledger_stop = stop.clone();
        tasks.spawn(async move { task.run(ledger_stop).await.unwrap() });
        let mut internal = None;
        if recording {
            let (account, region) = (ACCOUNT.parse().unwrap(), REGION.parse().unwrap());
            let home = Home { account, region, host: "collector".to_owned() };
            let opened = Internal::open(directory.path(), ledger.clone(), pki.authority(), &home).await.unwrap();
            let internal_stop = stop.clone();
            internal = Some(opened.0);
            tasks.spawn(async move { opened.1.run(internal_stop).await.unwrap() });
            let relays = Relays::start(&control, &pki, &ledger, internal.as_ref().unwrap()).await.unwrap();
            tasks.spawn(relays.run(stop.clone()));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let (ingest, ingest_stop) = (Ingest::new(ledger.clone(), control.clone(), &pki, internal), stop.clone());
        tasks.spawn(async move { Box::pin(ingest.serve(listener, ingest_stop)).await.unwrap() });
        Self { ledger, control, pki, endpoint, _tasks: tasks, _directory: directory }
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self._directory.path()
    }

    /// A copy of everything that it has on disk.
    pub(crate) fn copied(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let from = format!("{}/.", self.directory().display());
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap().success());
        copy
    }

    /// An agent that redeemed a token.
    pub(crate) async fn join(&self, number: u8) -> TestAgent {
        self.join_as(AgentId::from_bytes([number; 16])).await
    }

    pub(crate) async fn join_as(&self, agent: AgentId) -> TestAgent {
        let scopes = vec![(ACCOUNT.parse().unwrap(), REGION.parse().unwrap())];
        let ttl = Duration::from_secs(60);
        let token = self.control.create_token(&NewToken { scopes, gateway: false, ttl, uses: 1 }, now_ns()).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let request = JoinRequest {
            token: token.text,
            csr: CertificateParams::default().serialize_request(&key).unwrap().der().to_vec().into(),
            agent_id: agent.as_bytes().to_vec().into(),
            host: "host".to_owned(),
            version: "1".to_owned(),
        };
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: Vec::new() };
        let service = EnrollmentService::new(&self.pki, self.control.clone(), options);
        let answer = service.join(tonic::Request::new(request)).await.unwrap().into_inner();
        let chain = answer.credentials.unwrap().certificate_chain;
        TestAgent { agent, key, chain: chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect() }
    }

    /// A relay that redeemed a token. It reaches home with `holder`'s certificate, which names no agent.
    pub(crate) async fn relay(&self, name: &str, seed: u8) -> TestRelay {
        let new = NewRelayToken { name: name.parse().unwrap(), ttl: Duration::from_secs(60) };
        let token = self.control.create_relay_token(&new, now_ns()).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = ReceiptSigner::from_seed(&[seed; 32]);
        let request = JoinRelayRequest {
            token: token.text,
            csr: CertificateParams::default().serialize_request(&key).unwrap().der().to_vec().into(),
            receipt_public_key: signer.public_key().0.to_vec().into(),
            names: vec![format!("{name}.example")],
            version: "1".to_owned(),
        };
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: Vec::new() };
        let service = EnrollmentService::new(&self.pki, self.control.clone(), options);
        let answer = service.join_relay(tonic::Request::new(request)).await.unwrap().into_inner();
        let chain = answer.credentials.unwrap().certificate_chain;
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        TestRelay { signer, holder: TestAgent { agent: AgentId::from_bytes([0; 16]), key, chain } }
    }

    /// One connection of a relay, for several sessions.
    pub(crate) async fn connect(&self, relay: &TestRelay) -> Result<Channel, String> {
        let tls = Arc::clone(&self.credentials(&relay.holder).tls);
        channel(&self.endpoint, tls).await.map_err(|error| error.to_string())
    }

    /// A relay's session for an agent, resumed with these streams held; and what home answered.
    pub(crate) async fn brought(&self, channel: &Channel, agent: AgentId, held: &[&TestStream]) -> (Conversation, wire::Resumed) {
        let mut conversation = Conversation::over(channel.clone()).await.unwrap();
        let streams = held.iter().map(|stream| wire::HeldStream { opening: Some(stream.opening()), ..Default::default() });
        let resume =
            wire::Resume { agent_id: agent.as_bytes().to_vec().into(), streams: streams.collect(), ..wire::Resume::default() };
        conversation.say(from_agent::Message::Resume(resume)).await;
        match conversation.hear().await {
            Some(from_collector::Message::Resumed(resumed)) => (conversation, resumed),
            other => panic!("not resumed but {other:?}"),
        }
    }

    /// A certificate of this CA as of another time.
    pub(crate) fn issue_at(&self, number: u8, at: SystemTime) -> TestAgent {
        issue(&self.pki, number, at)
    }

    pub(crate) fn credentials(&self, agent: &TestAgent) -> Arc<Credentials> {
        let roots = self.pki.roots();
        let mut receipt_keys = ReceiptKeys::default();
        self.pki.receipt_keys().into_iter().for_each(|key: ReceiptKey| receipt_keys.add(key, &roots).unwrap());
        let tls = tls::client_config(&roots, Some(agent.tls())).unwrap();
        Arc::new(Credentials { tls, chain: agent.chain.clone(), roots, receipt_keys })
    }

    pub(crate) async fn attach(&self, agent: &TestAgent) -> Result<Conversation, String> {
        Conversation::begin(&self.endpoint, &self.credentials(agent)).await
    }

    /// Attaches and resumes with nothing held.
    pub(crate) async fn resumed(&self, agent: &TestAgent) -> Conversation {
        let mut conversation = self.attach(agent).await.unwrap();
        conversation.say(from_agent::Message::Resume(wire::Resume::default())).await;
        assert!(matches!(conversation.hear().await, Some(from_collector::Message::Resumed(_))));
        conversation
    }

    /// Attaches, resumes, and records the stream's open.
    pub(crate) async fn opened(&self, agent: &TestAgent, stream: &TestStream) -> Conversation {
        let mut conversation = self.resumed(agent).await;
        conversation.say(from_agent::Message::Opening(stream.opening())).await;
        let answer = conversation.hear().await;
        assert!(matches!(answer, Some(from_collector::Message::Opened(_))), "{answer:?}");
        conversation
    }

    /// All records of the ledger, in order.
    pub(crate) fn records(&self) -> Vec<EntryRecord> {
        let (mut records, mut from) = (Vec::new(), 0);
        loop {
            let entries = self.ledger.read(from, 1 << 20).unwrap();
            let Some(last) = entries.last() else { return records };
            from = last.index + 1;
            let again = |record: &EntryRecord| EntryRecord {
                bytes: record.bytes.clone(),
                leaf: record.leaf,
                facets: record.facets.clone(),
            };
            entries.iter().for_each(|entry| records.extend(entry.records.iter().map(again)));
        }
    }
}

pub(crate) fn issue(pki: &Pki, number: u8, at: SystemTime) -> TestAgent {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let agent = AgentId::from_bytes([number; 16]);
    let identity = AgentIdentity {
        trust_domain: pki.authority().trust_domain().clone(),
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        agent,
    };
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let request = pki.authority().check_request(csr.der()).unwrap();
    TestAgent { agent, key, chain: pki.authority().issue_agent(&request, &identity, at).unwrap() }
}

pub(crate) struct TestRelay {
    pub(crate) signer: ReceiptSigner,
    pub(crate) holder: TestAgent,
}

pub(crate) struct TestAgent {
    pub(crate) agent: AgentId,
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl TestAgent {
    fn tls(&self) -> tls::Identity {
        tls::Identity { chain: self.chain.clone(), key: PrivateKeyDer::Pkcs8(self.key.serialize_der().into()) }
    }

    pub(crate) fn stream(&self, number: u8) -> TestStream {
        self.stream_with(number, |_| {})
    }

    pub(crate) fn stream_with(&self, number: u8, change: impl FnOnce(&mut Beginning)) -> TestStream {
        let mut beginning = Beginning {
            binding: Binding::one(ACCOUNT.parse().unwrap(), REGION.parse().unwrap(), "host").unwrap(),
            agent: self.agent,
            certificate: Hash::of(&self.chain[0]),
            predecessor: None,
            cause: Cause::Join,
            t_opened: 1000,
        };
        change(&mut beginning);
        let stream = StreamId::from_bytes([number; 16]);
        let ratchet = Ratchet::new(stream, 0, Seed(zeroize::Zeroizing::new([number; 32])));
        let open = Open {
            stream,
            agent: beginning.agent,
            first_key: ratchet.public_key(),
            predecessor: beginning.predecessor,
            cause: beginning.cause,
            t_opened: beginning.t_opened,
            binding: beginning.binding.hash(),
            certificate: beginning.certificate,
        };
        let opening = Opening {
            signature: self.key.sign(&open.encode()).unwrap(),
            open: open.encode().to_vec(),
            binding: beginning.binding.to_bytes(),
            certificate_chain: self.chain.iter().map(|certificate| certificate.to_vec()).collect(),
        };
        TestStream {
            writer: Writer::begin(&open, ratchet),
            open,
            opening,
            last_receipt: Hash::ZERO,
            t_sealed: beginning.t_opened,
        }
    }
}

/// What an open says, to be changed by a test.
pub(crate) struct Beginning {
    pub(crate) binding: Binding,
    pub(crate) agent: AgentId,
    pub(crate) certificate: Hash,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) cause: Cause,
    pub(crate) t_opened: u64,
}

#[derive(Clone)]
pub(crate) struct TestStream {
    pub(crate) writer: Writer,
    pub(crate) open: Open,
    pub(crate) opening: Opening,
    /// What the next header names.
    pub(crate) last_receipt: Hash,
    t_sealed: u64,
}

impl TestStream {
    pub(crate) fn opening(&self) -> wire::Opening {
        wire::Opening {
            open: self.opening.open.clone().into(),
            binding: self.opening.binding.clone().into(),
            signature: self.opening.signature.clone().into(),
            certificate_chain: self.opening.certificate_chain.iter().map(|der| der.clone().into()).collect(),
            fork: false,
        }
    }

    /// What a ledger records of it.
    pub(crate) fn info(&self) -> StreamInfo {
        StreamInfo {
            stream: self.open.stream,
            agent: self.open.agent,
            open: self.open.clone(),
            open_bytes: self.opening.open.clone().into(),
            open_signature: self.opening.signature.clone().into(),
            certificate_chain: self.opening.certificate_chain.iter().map(|der| der.clone().into()).collect(),
            binding: Binding::parse(&self.opening.binding).unwrap(),
            internal: false,
        }
    }

    /// The next batch as a ledger takes it.
    pub(crate) fn incoming(&mut self, names: &[&str]) -> Incoming {
        let batch = Received::read(self.batch(names), Bringer::Agent).unwrap();
        batch.verify_alone(&self.info().binding, &mut edgetrail_link::body::Decoder::new().unwrap()).unwrap()
    }

    pub(crate) fn seal(&mut self, records: &[String]) -> (SealedBatch, Vec<u8>) {
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
        self.t_sealed += 1;
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind: if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records },
            leaves: &leaves,
            boot_id: [1; 16],
            t_sealed: self.t_sealed,
            t_min: 1,
            t_max: 1,
            counters: Counters { observed: self.writer.next_seq() + leaves.len() as u64, ..Counters::default() },
            last_receipt: self.last_receipt,
        });
        self.writer = writer;
        let mut body = Vec::new();
        records.iter().for_each(|record| frame(&mut body, record.as_bytes()));
        (sealed, body)
    }

    /// The next batch as the wire carries it, of records with these names.
    pub(crate) fn batch(&mut self, names: &[&str]) -> wire::Batch {
        let records: Vec<String> = names.iter().map(|name| record(name)).collect();
        self.batch_of(&records)
    }

    pub(crate) fn batch_of(&mut self, records: &[String]) -> wire::Batch {
        let (sealed, body) = self.seal(records);
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
    to_collector: mpsc::Sender<wire::FromAgent>,
    inbound: Streaming<wire::FromCollector>,
}

impl Conversation {
    pub(crate) async fn begin(endpoint: &Endpoint, credentials: &Credentials) -> Result<Self, String> {
        Self::over(channel(endpoint, Arc::clone(&credentials.tls)).await.map_err(|error| error.to_string())?).await
    }

    pub(crate) async fn over(channel: Channel) -> Result<Self, String> {
        let (to_collector, queue) = mpsc::channel(64);
        let attached = IngestClient::new(channel).attach(ReceiverStream::new(queue)).await;
        let inbound = attached.map_err(|status| status.to_string())?.into_inner();
        Ok(Self { to_collector, inbound })
    }

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

    /// The status with which the session ended.
    pub(crate) async fn ended(&mut self) -> tonic::Code {
        let heard = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("an end in time");
        heard.map_or_else(|status| status.code(), |message| panic!("no end but {message:?}"))
    }

    pub(crate) async fn receipt(&mut self) -> Receipt {
        match self.hear().await {
            Some(from_collector::Message::Receipt(receipt)) => Receipt::decode(&receipt).unwrap(),
            other => panic!("no receipt but {other:?}"),
        }
    }

    pub(crate) async fn refusal(&mut self) -> wire::Refusal {
        match self.hear().await {
            Some(from_collector::Message::Refusal(refusal)) => {
                assert!(self.hear().await.is_none(), "nothing follows a refusal");
                refusal
            }
            other => panic!("no refusal but {other:?}"),
        }
    }
}

pub(crate) fn record(name: &str) -> String {
    record_in(ACCOUNT, name)
}

pub(crate) fn record_in(account: &str, name: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"sudo.linux","eventName":"{name}","awsRegion":"{REGION}","eventCategory":"Management","eventType":"AwsApiCall","recipientAccountId":"{account}"}}"#
    )
}

pub(crate) fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

pub(crate) fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}
