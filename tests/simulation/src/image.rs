//! State directories as joining leaves them: made once in a process, copied for each seed.

use std::path::Path;
use std::sync::OnceLock;

use edgetrail_agent::buffer;
use edgetrail_disk::Medium;
use edgetrail_proto::identity::AgentId;
use tempfile::TempDir;

use crate::enrolled::{copy, join, join_relay};
use crate::relay;
use crate::stages::authority;

/// Hosts that have joined.
pub(crate) const HOSTS: usize = 2;

/// Relays that have joined.
pub(crate) const RELAYS: usize = 2;

/// A collector, its hosts and its relays before the first start.
pub(crate) struct Image {
    collector: TempDir,
    hosts: Vec<TempDir>,
    relays: Vec<TempDir>,
}

impl Image {
    pub(crate) fn get() -> &'static Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(|| {
            drop(rustls::crypto::ring::default_provider().install_default());
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(Self::make())
        })
    }

    async fn make() -> Self {
        let collector = directory();
        let (control, pki) = authority(collector.path());
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let host = directory();
            join(&control, &pki, host.path(), agent(number)).await;
            buffer::prepare(&Medium::real(), host.path()).unwrap();
            hosts.push(host);
        }
        let mut relays = Vec::new();
        for number in 0..RELAYS {
            let relay = directory();
            join_relay(&control, &pki, relay.path(), &relay::name(number)).await;
            relays.push(relay);
        }
        Self { collector, hosts, relays }
    }

    pub(crate) fn collector(&self) -> TempDir {
        copied(self.collector.path())
    }

    pub(crate) fn relay(&self, number: usize) -> TempDir {
        copied(self.relays[number].path())
    }

    pub(crate) fn host(&self, number: usize) -> TempDir {
        copied(self.hosts[number].path())
    }
}

pub(crate) fn agent(number: usize) -> AgentId {
    AgentId::from_bytes([u8::try_from(number).unwrap() + 1; 16])
}

/// In memory where the machine offers it: what power cuts do to a disk is tests/power's subject.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn copied(from: &Path) -> TempDir {
    let to = directory();
    copy(from, to.path());
    to
}
