//! `join`: a token becomes an identity.

use std::process::ExitCode;

use anyhow::Context as _;
use edgetrail_link::tls::CaPin;

use super::Output;
use crate::config::Config;
use crate::enroll::{self, IDENTITY_FILE, Join, JoinUrl};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetrail-agent join https://collector:8443 --token T --ca-pin sha256:…\n\nThe command, complete, is what `edgetrail-collector token create` prints. Joining again keeps the agent's id."
)]
pub(super) struct Arguments {
    /// The collector, such as https://collector:8443
    url: JoinUrl,
    /// The token that `token create` printed
    #[arg(long, env = "EDGETRAIL_TOKEN", hide_env_values = true)]
    token: String,
    /// The collector's CA, such as sha256:…
    #[arg(long, value_name = "PIN")]
    ca_pin: CaPin,
    /// Keep the state here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<std::path::PathBuf>,
}

pub(super) fn execute(arguments: &Arguments, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let directory = arguments.state_dir.clone().unwrap_or(config.state_dir);
    let host = match config.host {
        Some(host) => host,
        None => rustix::system::uname().nodename().to_str().context("the host's name is not UTF-8: set agent.host")?.to_owned(),
    };
    if !directory.join(IDENTITY_FILE).exists() {
        // Before the identity: from here on a first start is told from a lost buffer.
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("{} can't be created: run as root, or set agent.state_dir", directory.display()))?;
        crate::buffer::prepare(&edgetrail_disk::Medium::real(), &directory)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Arguments { url, token, ca_pin, .. } = arguments;
    let join = Join { directory: &directory, url, token, pin: *ca_pin, host: &host };
    let identity = runtime.block_on(enroll::join(&join))?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&identity)?),
        Output::Text => {
            println!(
                "joined as agent {} of account {} in {}, host {}",
                identity.agent_id, identity.account, identity.region, identity.host
            );
            println!("state: {}\nnext: edgetrail-agent run", directory.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
