//! One port, two doors: connections of relays are served beside those of agents, with room for many sessions each.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use edgetrail_link::tls::{Connection, Incoming, PeerIdentity};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// Relays' connections that wait to be served; further ones come again.
const WAITING_MAX: usize = 64;

/// The agents' door. Whoever passes it by is a relay, and goes through the other one.
#[derive(Debug)]
pub(super) struct Agents {
    incoming: Incoming,
    relays: mpsc::Sender<io::Result<Connection>>,
}

/// Both doors; the second one opens only while the first is waited at.
pub(super) fn doors(incoming: Incoming) -> (Agents, ReceiverStream<io::Result<Connection>>) {
    let (relays, waiting) = mpsc::channel(WAITING_MAX);
    (Agents { incoming, relays }, ReceiverStream::new(waiting))
}

impl Stream for Agents {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = std::task::ready!(Pin::new(&mut self.incoming).poll_next(context));
            let is_relay = |connection: &Connection| {
                let peer = connection.info().peer.as_ref();
                peer.is_some_and(|peer| matches!(peer.identity, PeerIdentity::Relay(_)))
            };
            match next {
                Some(Ok(connection)) if is_relay(&connection) => {
                    if self.relays.try_send(Ok(connection)).is_err() {
                        tracing::warn!("a relay's connection is not served: too many wait");
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}
