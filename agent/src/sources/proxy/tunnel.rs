//! A connection that became another protocol's: bytes in both directions until one side ends.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::upstream::Lease;

/// Both ends of a tunnel, before they are there.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) service: OnUpgrade,
    /// What the connection counts as while it lasts.
    pub(super) seat: Arc<OwnedSemaphorePermit>,
    /// The connection to the service must not end with its answer.
    pub(super) lease: Option<Lease>,
}

impl Tunnel {
    /// Until one side ends or `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { client, service, seat, lease } = self;
        let joined = async {
            let (client, service) = tokio::try_join!(client, service).map_err(std::io::Error::other)?;
            let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
            tokio::io::copy_bidirectional(&mut client, &mut service).await
        };
        tokio::select! {
            ended = joined => if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel ended");
            },
            () = stop.cancelled() => {}
        }
        drop((seat, lease));
    }
}
