//! Agents that can reach a relay alone join and renew through it: requests go to home as they are.
//!
//! What home answers goes back as it is, but for where agents attach: this relay first, then home's own endpoints.

use std::sync::Arc;

use edgetrail_link::uplink::Endpoint;
use edgetrail_link::wire::enrollment_server::{Enrollment, EnrollmentServer};
use edgetrail_link::wire::{
    JoinRelayRequest, JoinRelayResponse, JoinRequest, JoinResponse, RenewRelayRequest, RenewRelayResponse, RenewRequest,
    RenewResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::identity::RelayPapers;

/// Largest request, in bytes: as home's.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The gRPC service. A cheap handle.
#[derive(Clone, Debug)]
pub struct PassedOn {
    papers: watch::Receiver<Arc<RelayPapers>>,
    /// Where agents attach here: `host:port`, or `:port` on the host that they joined.
    here: String,
}

impl PassedOn {
    pub fn new(papers: watch::Receiver<Arc<RelayPapers>>, here: String) -> Self {
        Self { papers, here }
    }

    /// To be routed by the path prefix `/edgetrail.v1.Enrollment/`.
    pub fn server(self) -> EnrollmentServer<Self> {
        EnrollmentServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Home's endpoint as an agent reads it that has joined here.
    fn elsewhere(&self, endpoint: &str) -> String {
        match endpoint.strip_prefix(':').and_then(|port| port.parse().ok()) {
            Some(port) => Endpoint { host: self.papers.borrow().url.host.clone(), port }.to_string(),
            None => endpoint.to_owned(),
        }
    }
}

#[tonic::async_trait]
impl Enrollment for PassedOn {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let papers = Arc::clone(&self.papers.borrow());
        let mut client = papers.enrollment().await.map_err(unreachable)?;
        let mut answer = client.join(request.into_inner()).await?.into_inner();
        let mut endpoints = vec![self.here.clone()];
        match answer.ingest_endpoints.is_empty() {
            true => endpoints.push(papers.home.to_string()),
            false => endpoints.extend(answer.ingest_endpoints.iter().map(|endpoint| self.elsewhere(endpoint))),
        }
        answer.ingest_endpoints = endpoints;
        Ok(Response::new(answer))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let papers = Arc::clone(&self.papers.borrow());
        let mut client = papers.enrollment().await.map_err(unreachable)?;
        client.renew(request.into_inner()).await
    }

    async fn join_relay(&self, _: Request<JoinRelayRequest>) -> Result<Response<JoinRelayResponse>, Status> {
        Err(Status::unimplemented("a relay joins at home, not at another relay"))
    }

    async fn renew_relay(&self, _: Request<RenewRelayRequest>) -> Result<Response<RenewRelayResponse>, Status> {
        Err(Status::unimplemented("a relay renews at home, not at another relay"))
    }
}

fn unreachable(error: super::identity::RelayError) -> Status {
    tracing::warn!(error = &error as &dyn std::error::Error, "an agent's request could not be passed on to home");
    Status::unavailable("the relay can't reach home now; try again")
}
