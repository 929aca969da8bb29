//! A collector's stages around the API, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_proto::record::{EventType, Record, Resource, UserIdentity, format_time};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiParts, RecorderTask, ServerTask, serve};
use crate::control::{AccessKey, Control, TrailConfig};
use crate::history::{self, History, HistoryOptions, HistoryTask};
use crate::internal::{Home, Internal};
use crate::ledger::{Ledger, LedgerOptions};
use crate::pki::{EnrollmentOptions, EnrollmentService, Pki, TRUST_DOMAIN_DEFAULT};
use crate::sinks::SinkConfig;
use crate::trails::{self, Clock, ReceiptKeySource, Trails, TrailsOptions, TrailsTasks};

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const REGION: &str = "dc-local-1";
pub(super) const TRAIL_ARN: &str = "arn:aws:cloudtrail:dc-local-1:111122223333:trail/default";
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub key: AccessKey,
    pub foreign_key: AccessKey,
    pub control: Control,
    pub internal: Internal,
    pub history: History,
    stop: CancellationToken,
    internal_stop: CancellationToken,
    internal_task: JoinSet<()>,
    ledger_stop: CancellationToken,
    ledger_task: JoinSet<()>,
    owned: (ServerTask, RecorderTask, TrailsTasks, HistoryTask),
}

impl Bench {
    pub(super) async fn start() -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let [stop, internal_stop, ledger_stop] = [(); 3].map(|()| CancellationToken::new());
        let [mut internal_task, mut ledger_task] = [(); 2].map(|()| JoinSet::new());
        let control = Control::open(dir.path()).unwrap();
        let (account, region): (AccountId, Region) = (ACCOUNT.parse().unwrap(), REGION.parse().unwrap());
        let key = control.create_access_key(account, "alice", None, now_ns()).unwrap();
        let foreign_key = control.create_access_key("444455556666".parse().unwrap(), "eve", None, now_ns()).unwrap();
        let trail = control.put_trail(trail(dir.path())).unwrap();
        let pki = Pki::open(&dir.path().join("pki"), TRUST_DOMAIN_DEFAULT.parse().unwrap(), &[], control.revoked()).unwrap();
        let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
        options.consumers = vec![history::CONSUMER.to_owned(), trails::CONSUMER.to_owned()];
        let (ledger, task) = Ledger::open(&dir.path().join("ledger"), options).unwrap();
        let run = task.run(ledger_stop.clone());
        ledger_task.spawn(async move { run.await.unwrap() });
        let home = Home { account, region: region.clone(), host: "test".to_owned() };
        let (internal, task) = Internal::open(dir.path(), ledger.clone(), pki.authority(), &home).await.unwrap();
        let run = task.run(internal_stop.clone());
        internal_task.spawn(async move { run.await.unwrap() });
        let options = TrailsOptions {
            state_dir: dir.path().to_owned(),
            trails: vec![trail],
            receipt_keys: ReceiptKeySource::new(Vec::new),
            clock: Clock::System,
        };
        let (trails, trails_tasks) = Trails::start(ledger.clone(), options, stop.clone()).unwrap();
        let options = HistoryOptions { dir: dir.path().join("history"), retention: history::RETENTION_DEFAULT };
        let (history, history_task) = History::open(options, ledger, stop.clone()).unwrap();
        let parts = ApiParts {
            control: control.clone(),
            internal: internal.clone(),
            trails,
            history: history.clone(),
            home_account: account,
            home_region: region,
            partition: "aws".to_owned(),
        };
        let (api, recorder_task) = Api::new(parts);
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: Vec::new() };
        let router = api.router(EnrollmentService::new(&pki, control.clone(), options).server());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve(listener, pki.api_tls(), router, stop.clone());
        Self {
            dir,
            address,
            key,
            foreign_key,
            control,
            internal,
            history,
            stop,
            internal_stop,
            internal_task,
            ledger_stop,
            ledger_task,
            owned: (server, recorder_task, trails_tasks, history_task),
        }
    }

    /// Everything ends by itself once it is told to.
    pub(super) async fn stop(self) {
        let ends = async {
            self.stop.cancel();
            let (server, recorder, trails, history) = self.owned;
            server.join().await;
            drop(self.history);
            recorder.join().await;
            trails.join().await.unwrap();
            history.join().await;
            // The internal stream seals its close into the ledger, so the ledger ends last.
            self.internal_stop.cancel();
            self.internal_task.join_all().await;
            self.ledger_stop.cancel();
            self.ledger_task.join_all().await;
        };
        tokio::time::timeout(PATIENCE, ends).await.expect("every task ends after the stop");
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A client process in an environment like the one that quickstart's env.sh makes.
    pub(super) fn command(&self, program: &str, key: &AccessKey) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .env("AWS_ENDPOINT_URL", self.endpoint())
            .env("AWS_ACCESS_KEY_ID", &key.id)
            .env("AWS_SECRET_ACCESS_KEY", &key.secret)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_CA_BUNDLE", self.dir.path().join("pki/ca.pem"))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_PAGER", "")
            .kill_on_drop(true);
        command
    }

    /// Runs the AWS CLI; its standard output as JSON, null where there is none.
    pub(super) async fn aws(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.aws_output(arguments).await;
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "aws {arguments:?}: {}{}", shown(&output.stdout), shown(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(serde_json::Value::Null)
    }

    pub(super) async fn aws_output(&self, arguments: &[&str]) -> Output {
        let run = self.command("aws", &self.key).args(arguments).output();
        tokio::time::timeout(PATIENCE, run).await.expect("the AWS CLI ends").expect("the AWS CLI is installed")
    }

    /// Commits a record as if an agent had made it, and waits until history shows it.
    pub(super) async fn commit(&self, record: Record) {
        let (account, region) = (record.recipient_account_id.clone(), record.aws_region.clone());
        let attribute = (history::Attribute::EventId, record.event_id.to_string());
        self.internal.record(record).await.unwrap();
        let shown = async {
            loop {
                let query = history::Query::new(&account, &region, vec![attribute.clone()]);
                if !self.history.lookup(query).await.unwrap().events.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), shown).await.expect("history shows an event within 2 s");
    }
}

/// A login user's event in the past.
pub(super) fn record(serial: u128, name: &str, user: &str, ago: Duration) -> Record {
    let time = now_ns() - u64::try_from(ago.as_nanos()).unwrap();
    Record {
        event_id: uuid::Builder::from_random_bytes((serial + 1).to_be_bytes()).into_uuid(),
        event_time: format_time(time),
        event_source: "sudo.linux".to_owned(),
        event_name: name.to_owned(),
        aws_region: REGION.to_owned(),
        source_ip_address: "192.0.2.7".to_owned(),
        user_identity: UserIdentity {
            kind: Some("IAMUser".to_owned()),
            user_name: Some(user.to_owned()),
            access_key_id: Some(format!("AKIA{user}")),
            ..UserIdentity::default()
        },
        read_only: Some(false),
        resources: Some(vec![Resource {
            kind: Some("Host::File".to_owned()),
            arn: Some(format!("arn:aws:host:{REGION}:{ACCOUNT}:h/file/etc/{user}")),
            ..Resource::default()
        }]),
        event_type: EventType::AwsApiCall,
        management_event: Some(true),
        recipient_account_id: ACCOUNT.to_owned(),
        ..Record::default()
    }
}

pub(super) fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Digests every two seconds, so that a chain of several is there soon.
fn trail(dir: &Path) -> TrailConfig {
    TrailConfig {
        name: "default".to_owned(),
        arn: TRAIL_ARN.to_owned(),
        home_region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
        bucket: "edgetrail".to_owned(),
        prefix: None,
        created_ns: now_ns(),
        multi_region: true,
        validation: true,
        kms_key: None,
        log_interval: Duration::from_secs(1),
        log_bytes: 15 * 1024 * 1024,
        digest_interval: Duration::from_secs(2),
        sink: SinkConfig::Directory { path: dir.join("trail") },
        tags: Default::default(),
    }
}
