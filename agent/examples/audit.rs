//! Prints the records that this kernel's audit events make, one JSON line each, until interrupted.
//!
//! For trying the source by itself, as root: `auditctl -e 1`, run this, do something, `auditctl -e 0`.

use edgetrail_agent::normalize::audit::Decoder;
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer};
use edgetrail_agent::observation;
use edgetrail_agent::sources::audit::kernel;
use edgetrail_proto::identity::AgentId;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let host = Host {
        agent: AgentId::from_bytes([0; 16]),
        name: "localhost".to_owned(),
        account: "111122223333".parse()?,
        region: "dc-local-1".parse()?,
        partition: "aws".to_owned(),
        keep_raw: false,
    };
    let mut normalizer = Normalizer::new(host, Decoder::restore(None), Names::default());
    let (intake, mut outlet) = observation::intake();
    let stop = CancellationToken::new();
    let mut source = tokio::task::JoinSet::new();
    source.spawn(kernel::run(kernel::Stream::Multicast, None, None, intake, stop.clone()));
    loop {
        tokio::select! {
            group = outlet.recv() => {
                let Some(group) = group else { break };
                for draft in group.iter().flat_map(|observation| normalizer.normalize(observation)) {
                    if let Made::Record(record) = draft.record {
                        println!("{}", String::from_utf8_lossy(&record.to_json()));
                    }
                }
            }
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
        }
    }
    while let Some(ended) = source.join_next().await {
        ended??;
    }
    Ok(())
}
