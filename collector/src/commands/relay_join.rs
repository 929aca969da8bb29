//! `relay join`: makes this collector a relay of its home.

use anyhow::{Context, bail};
use edgetrail_link::tls::CaPin;

use super::{Of, serve, state};
use crate::config::HomeUrl;
use crate::relay::{self, RelayJoin};

pub(super) const EXAMPLES: &str = "Examples:
  edgetrail-collector relay join https://home.example:8443 --token T --ca-pin sha256:…

At home, `edgetrail-collector token create --relay NAME` prints this command. The configuration says `[relay] home` and,
under `ingest.names`, how agents reach this relay.";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Home's URL
    url: String,
    /// What `token create --relay NAME` printed at home
    #[arg(long)]
    token: String,
    /// The SHA-256 of home's CA certificate, printed with the token
    #[arg(long)]
    ca_pin: String,
}

pub(super) fn run(of: &Of, arguments: &Arguments) -> anyhow::Result<()> {
    let config = state::config(of)?;
    let Some(configured) = &config.relay else {
        bail!("the configuration says nothing of a relay: set `home = \"{}\"` under [relay]", arguments.url);
    };
    let url: HomeUrl = arguments.url.parse()?;
    if url.0 != configured.home {
        bail!("the configuration names another home, https://{}: correct `relay.home`, or join there", configured.home);
    }
    let pin: CaPin = arguments.ca_pin.parse().context("the CA pin can't be read")?;
    let mut names = config.ingest.names.clone();
    names.extend(config.api.names.iter().filter(|name| !config.ingest.names.contains(name)).cloned());
    if names.is_empty() {
        bail!("agents must know this relay by a name or address: give `names` under [ingest]");
    }
    let join = RelayJoin { dir: &config.state_dir, url: &url.0, token: &arguments.token, pin, names: &names };
    let papers = serve::runtime()?.block_on(relay::join(&join)).context("the relay has not joined")?;
    println!("joined {url} as relay {}; agents reach it as {}", papers.identity.name, names.join(", "));
    println!("start it: edgetrail-collector serve");
    Ok(())
}
