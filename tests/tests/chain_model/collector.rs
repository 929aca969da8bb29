//! A collector in this process: control store, PKI, ledger, internal stream, ingest; and its files, kept and restored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use edgetrail_collector::ledger::{Entry, Ledger};
use edgetrail_link::uplink::{Credentials, Endpoint};
use edgetrail_proto::chain::Cause;
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_simulation::enrolled::{self, copy};
use edgetrail_simulation::stages::Stages;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

pub(crate) struct Collector {
    directory: tempfile::TempDir,
    kept: Option<tempfile::TempDir>,
    parts: Option<Parts>,
}

struct Parts {
    open: Stages,
    endpoint: Endpoint,
    /// Ingest, then the internal stream, then the ledger.
    stages: Vec<(CancellationToken, JoinSet<()>)>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let parts = Parts::start(directory.path()).await;
        Self { directory, kept: None, parts: Some(parts) }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().unwrap()
    }

    async fn stop(&mut self) {
        for (stop, mut tasks) in self.parts.take().unwrap().stages {
            stop.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.parts = Some(Parts::start(self.directory.path()).await);
    }

    /// Keeps a copy of everything, as a backup would.
    pub(crate) async fn keep(&mut self) {
        self.stop().await;
        let kept = tempfile::tempdir().unwrap();
        copy(self.directory.path(), kept.path());
        self.kept = Some(kept);
        self.parts = Some(Parts::start(self.directory.path()).await);
    }

    /// There is no copy any more.
    pub(crate) fn forget_copy(&mut self) {
        self.kept = None;
    }

    /// Goes back to the copy, if there is one.
    pub(crate) async fn restore(&mut self) -> bool {
        let Some(kept) = &self.kept else { return false };
        let back = tempfile::tempdir().unwrap();
        copy(kept.path(), back.path());
        self.stop().await;
        self.directory = back;
        self.parts = Some(Parts::start(self.directory.path()).await);
        true
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.parts().endpoint.clone()
    }

    /// Redeems a token: leaves key and certificate in `directory`.
    pub(crate) async fn join(&self, directory: &Path, agent: AgentId) {
        let Stages { control, pki, .. } = &self.parts().open;
        enrolled::join(control, pki, directory, agent).await;
    }

    /// What the host's uplink shows and trusts, as its files say.
    pub(crate) fn credentials(&self, directory: &Path) -> Arc<Credentials> {
        enrolled::credentials(&self.parts().open.pki, directory)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.parts().open.ledger
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let entries = self.ledger().read(from, 1 << 20).unwrap();
            let Some(last) = entries.last() else { return all };
            from = last.index + 1;
            all.extend(entries);
        }
    }

    /// Stream and k of the batches in which each of the hosts' events lies.
    pub(crate) fn places(&self) -> BTreeMap<String, BTreeSet<(StreamId, u64)>> {
        let mut places = BTreeMap::<String, BTreeSet<_>>::new();
        for entry in self.entries().iter().filter(|entry| !entry.stream.internal) {
            for record in &entry.records {
                let name = record.facets.as_ref().unwrap().name.clone();
                places.entry(name).or_default().insert((entry.stream_id(), entry.header.k));
            }
        }
        places
    }

    /// Names of the hosts' events that are in the ledger.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let entries = self.entries();
        let records = entries.iter().filter(|entry| !entry.stream.internal).flat_map(|entry| &entry.records);
        records.map(|record| record.facets.as_ref().unwrap().name.clone()).collect()
    }

    pub(crate) fn is_frozen(&self, host: &Host) -> bool {
        self.ledger().streams_of(host.agent()).unwrap().iter().any(|state| state.is_frozen())
    }

    /// Each stream of an agent, in the order recorded, for a failing schedule's message.
    pub(crate) fn known(&self, agent: AgentId) -> Vec<String> {
        let streams = self.ledger().streams_of(agent).unwrap();
        let told = streams.iter().map(|state| {
            let open = &state.info.open;
            let behind = open.predecessor.map(|named| format!("{} {}", named.stream, named.k.cast_signed()));
            let (head, by, bound) = (state.head.k, state.superseded_by, state.bound);
            let frozen = state.is_frozen();
            format!(
                "{} {:?} behind {behind:?}: head {head:?}, superseded by {by:?} bound {bound:?}, frozen {frozen}",
                open.stream, open.cause
            )
        });
        told.collect()
    }

    pub(crate) fn causes(&self, host: &Host) -> Vec<Cause> {
        self.ledger().streams_of(host.agent()).unwrap().iter().map(|state| state.info.open.cause).collect()
    }
}

impl Parts {
    async fn start(directory: &Path) -> Self {
        let (open, ledger_task) = Stages::open(directory, None);
        let mut stages = Vec::new();
        let mut stage = |run: futures_run::Run| {
            let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
            tasks.spawn(run(stop.clone()));
            stages.insert(0, (stop, tasks));
        };
        stage(Box::new(move |stop| Box::pin(async move { ledger_task.run(stop).await.unwrap() })));
        let (ingest, internal_task) = open.ingest(directory).await;
        stage(Box::new(move |stop| Box::pin(async move { internal_task.run(stop).await.unwrap() })));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        stage(Box::new(move |stop| Box::pin(async move { Box::pin(ingest.serve(listener, stop)).await.unwrap() })));
        Self { open, endpoint, stages }
    }
}

mod futures_run {
    use std::future::Future;
    use std::pin::Pin;

    use tokio_util::sync::CancellationToken;

    /// A stage's task, given its stop.
    pub(crate) type Run = Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>>>;
}
