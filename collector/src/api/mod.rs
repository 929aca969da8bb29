//! CloudTrail's API, the S3 face and STS on one port.
//!
//! Every request is signed (SigV4); the service that it names in its credential scope decides which protocol it is
//! spoken to in. The region of a call is its scope's, the account its access key's: one endpoint serves all regions. What its
//! policies do not allow is refused before anything is looked for. Every
//! call is itself recorded through the internal stream, refused ones too; StartLogging and StopLogging answer only after
//! that record is committed and the trails have passed it. Nothing is buffered before its key is known, no body beyond a
//! limit, no answer takes for ever. The API reads what other stages keep; it changes nothing but through its records.

mod attempts;
mod authority;
mod caller;
mod cloudtrail;
mod dispatch;
mod event;
mod fault;
mod operations;
mod recorder;
mod reply;
mod s3;
mod server;
mod sts;
mod xml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use edgetrail_proto::identity::{AccountId, Region};
use tokio::sync::Semaphore;

pub use caller::{Peer, TlsFacts};
pub use recorder::RecorderTask;
pub use server::{ServerTask, serve};

use crate::control::Control;
use crate::history::History;
use crate::internal::Internal;
use crate::trails::Trails;

/// What the API answers from.
#[derive(Debug)]
pub struct ApiParts {
    pub control: Control,
    pub internal: Internal,
    pub trails: Trails,
    pub history: History,
    pub home_account: AccountId,
    pub home_region: Region,
    /// Of ARNs, such as `aws`.
    pub partition: String,
}

/// A cheap handle.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: ApiParts,
    recorder: recorder::Recorder,
    attempts: attempts::Attempts,
    /// One permit for each MiB of objects in memory.
    object_memory: Arc<Semaphore>,
}

impl Api {
    /// The task writes the records of answered calls; join it after the server has ended.
    pub fn new(parts: ApiParts) -> (Self, RecorderTask) {
        let (recorder, task) = recorder::start(parts.internal.clone());
        let object_memory = Arc::new(Semaphore::new(s3::OBJECT_MEMORY_MIB));
        (Self(Arc::new(Inner { parts, recorder, attempts: attempts::Attempts::default(), object_memory })), task)
    }

    /// All that is answered on the port. `enrollment` is the gRPC service, served by its path.
    pub fn router<E>(self, enrollment: E) -> Router
    where
        E: tower::Service<axum::extract::Request, Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
        E::Response: axum::response::IntoResponse,
        E::Future: Send + 'static,
    {
        Router::new()
            .route("/healthz", axum::routing::get(|| async { "ok\n" }))
            .route("/v1/keys", axum::routing::get(cloudtrail::all_public_keys))
            .route_service("/edgetrail.v1.Enrollment/{method}", enrollment)
            .fallback(dispatch::answer)
            .with_state(self)
    }

    fn parts(&self) -> &ApiParts {
        &self.0.parts
    }
}
