//! A small collector: writes a whole trail of five digests, as one that keeps the rules would, or with a rule broken at a
//! chosen place *before* it is hashed and signed, as one that was seized would.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use super::foreign::Corp;
use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Open, Predecessor, Ratchet, ReceiptSigner, SealInput, SealedBatch, Seed, Writer,
};
use edgetrail_proto::digest::{Digest, DigestLogFile, HASH_ALGORITHM, ProofRef, SIGNATURE_ALGORITHM, string_to_sign};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::keys::TrailPaths;
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::proof::{Base64, Mark, PROOF_VERSION, Proof, ProofBatch, ProofReceiptKey, ProofStream};
use edgetrail_proto::record::format_time;
use edgetrail_verify::keys::{DigestKey, Keys};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::EncodePrivateKey;

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "dc-local-1";
pub(crate) const BUCKET: &str = "audit";
pub(crate) const WINDOWS: usize = 5;
const S: u64 = 1_000_000_000;
/// 2026-01-15T12:00:00Z: five windows of a minute lie within one day.
pub(crate) const T0: u64 = 1_768_478_400 * S;
pub(crate) const WINDOW: u64 = 60 * S;
const TRAIL: &str = "default";
const FINGERPRINT: &str = "00112233445566778899aabbccddeeff";

/// Edits what is about to be hashed; told the window's number.
pub(crate) type Hook<T> = Box<dyn Fn(usize, &mut T)>;
type ChainHook = Box<dyn Fn(&mut Vec<Base64>, &[u8])>;
type SealHook = Box<dyn Fn(usize, &mut SealInput<'_>)>;

/// Where a rule may be broken; each is told the window's number.
pub(crate) struct Hooks {
    pub(crate) records: Hook<Vec<Vec<u8>>>,
    pub(crate) seal: SealHook,
    pub(crate) sealed: Hook<SealedBatch>,
    pub(crate) open: Box<dyn Fn(&mut Open)>,
    pub(crate) certificate: Box<dyn Fn(&mut CertificateParams)>,
    pub(crate) log: Hook<Vec<Vec<u8>>>,
    pub(crate) proof: Hook<Proof>,
    pub(crate) digest: Hook<Digest>,
    /// The lane that is written.
    pub(crate) region: &'static str,
    /// In this window the stream ends without a close and a successor begins.
    pub(crate) successor_in: Option<usize>,
    /// What that successor says it follows.
    pub(crate) predecessor: Box<dyn Fn(&mut Predecessor)>,
    /// The agent's writing end before it seals: somebody else's from some window on.
    pub(crate) writer: Hook<Writer>,
    /// Records of the collector's own stream, which begins with the first of them.
    pub(crate) internal: Hook<Vec<Vec<u8>>>,
    /// Told the root that signed the agent's certificate, DER.
    pub(crate) chain: ChainHook,
    /// The PKI of the operator's own that issues the agent's certificates; its root is the last that the auditor has.
    pub(crate) corp: Option<Corp>,
    /// What the stream is bound to; delivered under [`ACCOUNT`] whatever it says.
    pub(crate) bound_to: &'static str,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            records: Box::new(|_, _| {}),
            seal: Box::new(|_, _| {}),
            sealed: Box::new(|_, _| {}),
            open: Box::new(|_| {}),
            certificate: Box::new(|_| {}),
            log: Box::new(|_, _| {}),
            proof: Box::new(|_, _| {}),
            digest: Box::new(|_, _| {}),
            region: REGION,
            successor_in: None,
            predecessor: Box::new(|_| {}),
            writer: Box::new(|_, _| {}),
            internal: Box::new(|_, _| {}),
            chain: Box::new(|_, _| {}),
            corp: None,
            bound_to: ACCOUNT,
        }
    }
}

/// A trail as its objects: what a bucket operator can touch.
#[derive(Clone)]
pub(crate) struct Trail {
    pub(crate) objects: BTreeMap<String, (Vec<u8>, BTreeMap<String, String>)>,
    /// Keys in order of their windows.
    pub(crate) digests: Vec<String>,
    pub(crate) logs: Vec<String>,
    pub(crate) proofs: Vec<String>,
    pub(crate) keys: Keys,
}

struct Stream {
    stated: ProofStream,
    writer: Writer,
    observed: u64,
}

/// The digest key, made once: RSA keys take their time.
fn digest_key() -> &'static (ring::rsa::KeyPair, Vec<u8>) {
    static KEY: OnceLock<(ring::rsa::KeyPair, Vec<u8>)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let pkcs8 = key.to_pkcs8_der().unwrap();
        let public = key.to_public_key().to_pkcs1_der().unwrap().as_bytes().to_vec();
        (ring::rsa::KeyPair::from_pkcs8(pkcs8.as_bytes()).unwrap(), public)
    })
}

/// A root of its own; all of them have one name.
pub(crate) fn certificate_authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn record(window: usize, number: usize) -> Vec<u8> {
    let time = format_time(T0 + window as u64 * WINDOW + 10 * S + number as u64 * S);
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"IAMUser","userName":"alice"}},"eventTime":"{time}","eventSource":"shop.example","eventName":"RefundOrder","awsRegion":"{REGION}","sourceIPAddress":"h1","requestParameters":{{"n":{number}}},"responseElements":null,"eventID":"00000000-0000-8000-8000-{window:06}{number:06}","readOnly":false,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"{ACCOUNT}","eventCategory":"Management"}}"#
    )
    .into_bytes()
}

/// Signs anew what an attacker without the key could not: for checks that lie behind the signature.
pub(crate) fn sign(digest: &Digest, json: &[u8]) -> String {
    let text = string_to_sign(
        &digest.digest_end_time,
        &digest.digest_s3_bucket,
        &digest.digest_s3_object,
        &Hash::of(json).to_hex(),
        digest.previous_digest_signature.as_deref(),
    );
    let mut signature = vec![0; digest_key().0.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    digest_key().0.sign(&ring::signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
    hex::encode(signature)
}

impl Trail {
    pub(crate) fn whole() -> Self {
        Self::with(&Hooks::default())
    }

    pub(crate) fn with(hooks: &Hooks) -> Self {
        Builder::new(hooks).build()
    }

    /// The same trail with another lane beside this one.
    pub(crate) fn beside(mut self, lane: Self) -> Self {
        self.objects.extend(lane.objects);
        self.keys.roots.extend(lane.keys.roots);
        self
    }

    pub(crate) fn write(&self, root: &Path) {
        for (key, (bytes, metadata)) in &self.objects {
            let path = root.join(BUCKET).join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let sidecar = serde_json::json!({"ContentType": "application/json", "ContentEncoding": "gzip", "Metadata": metadata});
            std::fs::write(format!("{}.meta.json", path.display()), sidecar.to_string()).unwrap();
        }
    }
}

struct Builder<'a> {
    hooks: &'a Hooks,
    ca: CertifiedIssuer<'static, KeyPair>,
    receipts: ReceiptSigner,
    streams: Vec<Stream>,
    /// The collector's own.
    internal: Option<Stream>,
    trail: Trail,
    ledger_index: u64,
}

/// A batch as a proof shows it: with its receipt and its stream.
type Shown = (ProofBatch, Base64, ProofStream);

impl<'a> Builder<'a> {
    fn new(hooks: &'a Hooks) -> Self {
        let ca = certificate_authority();
        let key = DigestKey { der: digest_key().1.clone(), not_before: T0 - T0 % (86_400 * S), not_after: T0 + 86_400 * S };
        let mut roots = vec![ca.der().to_vec()];
        roots.extend(hooks.corp.iter().map(|corp| corp.root.clone()));
        let keys = Keys { digest: [(FINGERPRINT.to_owned(), key)].into(), roots };
        let trail = Trail { objects: BTreeMap::new(), digests: Vec::new(), logs: Vec::new(), proofs: Vec::new(), keys };
        Self {
            hooks,
            ca,
            receipts: ReceiptSigner::from_seed(&[7; 32]),
            streams: Vec::new(),
            internal: None,
            trail,
            ledger_index: 0,
        }
    }

    fn open_stream(&mut self, number: u8, at: u64, predecessor: Option<Predecessor>) {
        let binding = Binding::one(self.hooks.bound_to.parse().unwrap(), self.hooks.region.parse().unwrap(), "h1").unwrap();
        let stream = self.opened(number, at, predecessor, AgentId::from_bytes([9; 16]), &binding);
        self.streams.push(stream);
    }

    fn opened(&self, number: u8, at: u64, predecessor: Option<Predecessor>, agent: AgentId, binding: &Binding) -> Stream {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let spiffe = format!("spiffe://edgetrail.internal/account/{ACCOUNT}/region/{}/agent/{agent}", self.hooks.region);
        params.subject_alt_names.push(SanType::URI(spiffe.try_into().unwrap()));
        (self.hooks.certificate)(&mut params);
        let corp = self.hooks.corp.as_ref();
        let certificate = match corp {
            Some(corp) => params.signed_by(&key, &corp.issuer).unwrap(),
            None => params.signed_by(&key, &self.ca).unwrap(),
        };
        let stream = StreamId::from_bytes([number; 16]);
        let ratchet = Ratchet::new(stream, 0, Seed([number; 32].into()));
        let mut open = Open {
            stream,
            agent,
            first_key: ratchet.public_key(),
            predecessor,
            cause: if predecessor.is_some() { Cause::BufferOrKeyLost } else { Cause::Join },
            t_opened: at,
            binding: binding.hash(),
            certificate: Hash::of(certificate.der()),
        };
        (self.hooks.open)(&mut open);
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let signing = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).unwrap();
        let signature = signing.sign(&random, &open.encode()).unwrap().as_ref().to_vec();
        let mut certificate_chain = vec![Base64(certificate.der().to_vec())];
        certificate_chain.extend(corp.map(|corp| Base64(corp.issuer.der().to_vec())));
        (self.hooks.chain)(&mut certificate_chain, self.ca.der());
        let stated = ProofStream {
            stream_id: stream.to_string(),
            open: Base64(open.encode().to_vec()),
            binding: Base64(binding.to_bytes()),
            signature: Base64(signature),
            certificate_chain,
            internal: binding.is_all(),
            take_up: None,
            resumed: Vec::new(),
        };
        Stream { stated, writer: Writer::begin(&open, ratchet), observed: 0 }
    }

    fn build(mut self) -> Trail {
        self.open_stream(1, T0, None);
        let mut previous: Option<(Digest, Vec<u8>, String)> = None;
        for window in 0..WINDOWS {
            if self.hooks.successor_in == Some(window) {
                let writer = &self.streams[0].writer;
                let mut predecessor = Predecessor { stream: writer.stream(), k: writer.next_k() - 1, hash: writer.head() };
                (self.hooks.predecessor)(&mut predecessor);
                self.open_stream(2, T0 + window as u64 * WINDOW + 5 * S, Some(predecessor));
            }
            previous = Some(self.window(window, previous));
        }
        self.trail
    }

    fn window(&mut self, window: usize, previous: Option<(Digest, Vec<u8>, String)>) -> (Digest, Vec<u8>, String) {
        let paths = TrailPaths::default();
        let (start, end) = (T0 + window as u64 * WINDOW, T0 + (window as u64 + 1) * WINDOW);
        let ledger_from = self.ledger_index;
        let mut records: Vec<Vec<u8>> = (0..3).map(|number| record(window, number)).collect();
        (self.hooks.records)(window, &mut records);
        let mut stream = self.streams.pop().unwrap();
        let shown = self.batch(&mut stream, window, start, &records);
        self.streams.push(stream);
        let (mut batches, mut receipts, mut streams) = (vec![shown.0], vec![shown.1], vec![shown.2]);
        let mut delivered = records;
        (self.hooks.log)(window, &mut delivered);
        let mut own = Vec::new();
        (self.hooks.internal)(window, &mut own);
        if !own.is_empty() {
            let shown = self.internal_batch(window, start, &own);
            batches.push(shown.0);
            receipts.push(shown.1);
            streams.push(shown.2);
            delivered.extend(own);
        }
        let json = [b"{\"Records\":[".as_slice(), &delivered.join(b",".as_slice()), b"]}"].concat();
        let unique = format!("AAAAAA{window:010}");
        let log_key = paths.log_file_key(ACCOUNT, self.hooks.region, end, &unique);
        self.put(&log_key, gzip(&json), BTreeMap::new());
        self.trail.logs.push(log_key.clone());

        let receipt_key = self.receipts.public_key().0;
        let (not_before, not_after) = (T0 - 1, u64::MAX);
        let mut proof = Proof {
            version: PROOF_VERSION.to_owned(),
            aws_account_id: ACCOUNT.to_owned(),
            aws_region: self.hooks.region.to_owned(),
            digest_start_time: format_time(start),
            digest_end_time: format_time(end),
            ledger_from,
            ledger_to: self.ledger_index,
            streams,
            receipt_keys: vec![ProofReceiptKey {
                public_key: Base64(receipt_key.to_vec()),
                not_before,
                not_after,
                ca_signature: Base64(self.sign_receipt_key(&receipt_key, not_before, not_after)),
            }],
            batches,
            receipts,
        };
        (self.hooks.proof)(window, &mut proof);
        let proof_key = paths.proof_key(ACCOUNT, self.hooks.region, TRAIL, REGION, end);
        self.put(&proof_key, gzip(&proof.to_json()), BTreeMap::new());
        self.trail.proofs.push(proof_key.clone());

        let digest_key = paths.digest_key(ACCOUNT, self.hooks.region, TRAIL, REGION, end);
        let time = |number: usize| format_time(start + 10 * S + number as u64 * S);
        let mut digest = Digest {
            aws_account_id: ACCOUNT.to_owned(),
            digest_start_time: format_time(start),
            digest_end_time: format_time(end),
            digest_s3_bucket: BUCKET.to_owned(),
            digest_s3_object: digest_key.clone(),
            digest_public_key_fingerprint: FINGERPRINT.to_owned(),
            digest_signature_algorithm: SIGNATURE_ALGORITHM.to_owned(),
            newest_event_time: Some(time(2)),
            oldest_event_time: Some(time(0)),
            previous_digest_s3_bucket: previous.as_ref().map(|(p, _, _)| p.digest_s3_bucket.clone()),
            previous_digest_s3_object: previous.as_ref().map(|(p, _, _)| p.digest_s3_object.clone()),
            previous_digest_hash_value: previous.as_ref().map(|(_, json, _)| Hash::of(json).to_hex()),
            previous_digest_hash_algorithm: previous.as_ref().map(|_| HASH_ALGORITHM.to_owned()),
            previous_digest_signature: previous.as_ref().map(|(_, _, signature)| signature.clone()),
            log_files: vec![DigestLogFile {
                s3_bucket: BUCKET.to_owned(),
                s3_object: log_key,
                hash_value: Hash::of(&json).to_hex(),
                hash_algorithm: HASH_ALGORITHM.to_owned(),
                newest_event_time: time(2),
                oldest_event_time: time(0),
            }],
            edgetrail_proof: Some(ProofRef {
                s3_bucket: BUCKET.to_owned(),
                s3_object: proof_key,
                hash_value: Hash::of(&proof.to_json()).to_hex(),
                hash_algorithm: HASH_ALGORITHM.to_owned(),
            }),
        };
        (self.hooks.digest)(window, &mut digest);
        let json = digest.to_json();
        let signature = sign(&digest, &json);
        let metadata = [("signature", signature.as_str()), ("signature-algorithm", SIGNATURE_ALGORITHM)];
        self.put(&digest_key, gzip(&json), metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        self.trail.digests.push(digest_key);
        (digest, json, signature)
    }

    fn internal_batch(&mut self, window: usize, start: u64, records: &[Vec<u8>]) -> Shown {
        let former = self.internal.take();
        let begin = || self.opened(0xee, start, None, AgentId::from_bytes([0xee; 16]), &Binding::all("collector").unwrap());
        let mut stream = former.unwrap_or_else(begin);
        let shown = self.batch(&mut stream, window, start, records);
        self.internal = Some(stream);
        shown
    }

    fn batch(&mut self, stream: &mut Stream, window: usize, start: u64, records: &[Vec<u8>]) -> Shown {
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record)).collect();
        stream.observed += leaves.len() as u64;
        let (t_sealed, t_received) = (start + 30 * S, start + 31 * S);
        let mut input = SealInput {
            kind: if leaves.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records },
            leaves: &leaves,
            boot_id: [3; 16],
            t_sealed,
            t_min: start + 29 * S,
            t_max: start + 30 * S,
            counters: Counters { observed: stream.observed, ..Counters::default() },
            last_receipt: Hash::ZERO,
        };
        (self.hooks.seal)(window, &mut input);
        if !stream.stated.internal {
            (self.hooks.writer)(window, &mut stream.writer);
        }
        let (mut sealed, writer) = stream.writer.seal(&input);
        stream.writer = writer;
        (self.hooks.sealed)(window, &mut sealed);
        let (stream_id, k) = (sealed.header.stream, sealed.header.k);
        let receipt = self.receipts.sign(stream_id, k, sealed.header.hash(), self.ledger_index, t_received);
        let mut batch = ProofBatch {
            ledger_index: self.ledger_index,
            t_received,
            header: Base64(sealed.header.encode().to_vec()),
            seal: Base64(sealed.seal.0.to_vec()),
            leaves: None,
            marks: None,
        };
        batch.set_leaves(&leaves.iter().map(|leaf| (*leaf, Mark::Delivered)).collect::<Vec<_>>());
        self.ledger_index += 1;
        (batch, Base64(receipt.encode()), stream.stated.clone())
    }

    fn sign_receipt_key(&self, key: &[u8; 32], not_before: u64, not_after: u64) -> Vec<u8> {
        let statement =
            [b"edgetrail/receipt-key/v1\n".as_slice(), key, &not_before.to_be_bytes(), &not_after.to_be_bytes()].concat();
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &self.ca.key().serialize_der(), &random).unwrap();
        pair.sign(&random, &statement).unwrap().as_ref().to_vec()
    }

    fn put(&mut self, key: &str, bytes: Vec<u8>, metadata: BTreeMap<String, String>) {
        self.trail.objects.insert(key.to_owned(), (bytes, metadata));
    }
}
