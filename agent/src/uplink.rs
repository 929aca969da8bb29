//! Sends sealed batches to a collector and stores its receipts.
//!
//! All of it is [`edgetrail_link::uplink`]; here its parts come together: where to, as whom, from which store.

use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::outbox::Outbox;
use edgetrail_link::uplink::{Credentials, Endpoint, EndpointError, Status, Uplink, UplinkOptions};
use tokio::sync::watch;

use crate::enroll::Identity;

/// The uplink of a joined agent; its `run` is the one task.
pub fn uplink(
    identity: &Identity,
    return_after: Duration,
    credentials: watch::Receiver<Arc<Credentials>>,
    outbox: Arc<dyn Outbox>,
) -> Result<(Uplink, watch::Receiver<Status>), EndpointError> {
    let endpoints: Result<Vec<Endpoint>, EndpointError> = identity.endpoints.iter().map(|endpoint| endpoint.parse()).collect();
    let agent_version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Uplink::new(outbox, UplinkOptions { endpoints: endpoints?, return_after, credentials, agent_version }))
}
