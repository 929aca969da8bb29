//! A relay's rules without its ports: a ledger in a relay's role, what home has said, and a forwarder to a real home.

mod forwarding;
mod outbox;

use std::sync::Arc;
use std::time::Duration;

use edgetrail_disk::Medium;
use edgetrail_link::transport::Tcp;
use edgetrail_proto::chain::ReceiptSigner;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::outbox::AgentOutbox;
use super::{CONSUMER, Forwarder, ForwarderOptions, Progress, Standing};
use crate::ingest::tests::rig::{PATIENCE, Rig, TestAgent, TestRelay, TestStream};
use crate::ledger::{Ledger, LedgerOptions, Role};

/// Of the relay's receipt key, as it joins home with.
const SEED: u8 = 9;

/// What a relay keeps on disk.
struct Bench {
    ledger: Ledger,
    progress: Arc<Progress>,
    _tasks: JoinSet<()>,
    dir: tempfile::TempDir,
}

impl Bench {
    /// Every batch in a segment of its own, which goes once it may.
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[SEED; 32])));
        (options.role, options.consumers) = (Role::Relay, vec![CONSUMER.to_owned()]);
        (options.segment_bytes, options.retention) = (1, Duration::ZERO);
        let (ledger, task) = Ledger::open(&dir.path().join("ledger"), options).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(task.run(CancellationToken::new()).await) });
        let progress = Arc::new(Progress::open(&Medium::real(), dir.path()).unwrap());
        Self { ledger, progress, _tasks: tasks, dir }
    }

    async fn take(&self, stream: &mut TestStream, names: &[&str]) {
        for name in names {
            self.ledger.commit(stream.incoming(&[name])).await.unwrap();
        }
    }

    fn outbox(&self, agent: &TestAgent) -> AgentOutbox {
        AgentOutbox::new(agent.agent, self.ledger.clone(), Arc::clone(&self.progress))
    }

    fn segments(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("ledger/segments")).unwrap().count()
    }

    /// Bodies that home has go from here: all but the last segment.
    async fn release(&self) {
        self.ledger.release_now(CONSUMER, self.progress.passed());
        let left = usize::try_from(self.ledger.next_index() - self.progress.passed()).unwrap().max(1);
        until("the release", || self.segments() == left).await;
    }

    fn forward(&self, home: &Rig, relay: &TestRelay) -> Forwarding {
        let (credentials, receiver) = watch::channel(home.credentials(&relay.holder));
        let options = ForwarderOptions { dial: Tcp::dialer(), home: home.endpoint.clone(), credentials: receiver };
        let (forwarder, standing) = Forwarder::new(self.ledger.clone(), Arc::clone(&self.progress), options);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let stopped = stop.clone();
        tasks.spawn(async move { forwarder.run(stopped).await.unwrap() });
        Forwarding { standing, stop, tasks, _credentials: credentials }
    }
}

struct Forwarding {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _credentials: watch::Sender<Arc<edgetrail_link::uplink::Credentials>>,
}

impl Forwarding {
    async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.expect("it stops").unwrap().unwrap();
    }
}

/// Looks until it is so; what is looked at changes in other threads, and tells nobody.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what} in time"));
}
