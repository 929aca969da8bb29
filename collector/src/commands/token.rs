//! `token create`: makes a token and prints the one command that joins an agent, or a relay.

use anyhow::Context;
use clap::Subcommand;
use edgetrail_proto::identity::{AccountId, Region, RelayName};
use edgetrail_proto::record::format_time;
use serde_json::json;

use super::{Of, Output, state};
use crate::config::Config;
use crate::control::{NewRelayToken, NewToken, Token};
use crate::run::authority;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a token and prints the command that joins an agent, or a relay, with it
    #[command(after_help = EXAMPLES)]
    Create(Create),
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector token create --account 111122223333 --region dc-tokyo-1
  edgetrail-collector token create --account 111122223333 --region dc-tokyo-1 --ttl 7d --uses 100
  edgetrail-collector token create --gateway --scope 111122223333/dc-tokyo-1 --scope 444455556666/dc-osaka-1
  edgetrail-collector token create --relay tokyo-1";

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The account of everything that the agent sends, 12 digits
    #[arg(long, requires = "region", required_unless_present_any = ["scope", "relay"])]
    account: Option<AccountId>,
    /// The region of everything that the agent sends, such as dc-tokyo-1
    #[arg(long, requires = "account")]
    region: Option<Region>,
    /// A further account and region that a gateway may bring records of; may be given several times
    #[arg(long, value_name = "ACCOUNT/REGION", value_parser = scope, requires = "gateway")]
    scope: Vec<(AccountId, Region)>,
    /// The agent brings records that were made elsewhere
    #[arg(long)]
    gateway: bool,
    /// A relay joins with it, once, under this name: a lower-case DNS label
    #[arg(long, value_name = "NAME", conflicts_with_all = ["account", "region", "scope", "gateway", "uses"])]
    relay: Option<RelayName>,
    /// How long the token is good for: 30m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: std::time::Duration,
    /// How many agents may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let Command::Create(create) = command;
    let config = state::config(of)?;
    let control = state::control(&config)?;
    if let Some(name) = create.relay {
        let new = NewRelayToken { name, ttl: create.ttl };
        let token = control.create_relay_token(&new, state::now_ns()).context("the token can't be made")?;
        return print(&config, &token, "edgetrail-collector relay join", create.output);
    }
    let scopes = create.account.zip(create.region).into_iter().chain(create.scope).collect();
    let new = NewToken { scopes, gateway: create.gateway, ttl: create.ttl, uses: create.uses };
    let token = control.create_token(&new, state::now_ns()).context("the token can't be made")?;
    print(&config, &token, "edgetrail-agent join", create.output)
}

/// The one command that joins with the token.
fn print(config: &Config, token: &Token, command: &str, output: Output) -> anyhow::Result<()> {
    let (url, pin) = (api_url(config), state::ca_pin(config)?);
    let join = format!("{command} {url} --token {} --ca-pin {pin}", token.text);
    match output {
        Output::Text => println!("{join}"),
        Output::Json => {
            let expires = format_time(token.expires_ns);
            let shown = json!({ "token": token.text, "expires": expires, "url": url, "ca_pin": pin.to_string(), "join": join });
            println!("{shown}");
        }
    }
    Ok(())
}

/// Where agents join: the API's first name, else the collector's host name.
fn api_url(config: &Config) -> String {
    let host = config.api.names.first().unwrap_or(&config.home.host);
    format!("https://{}", authority(host, config.api.listen.port()))
}

fn scope(text: &str) -> Result<(AccountId, Region), String> {
    let (account, region) = text.split_once('/').ok_or("write ACCOUNT/REGION")?;
    let parsed = account.parse().and_then(|account| Ok((account, region.parse()?)));
    parsed.map_err(|error: edgetrail_proto::identity::IdentityError| error.to_string())
}

fn ttl(text: &str) -> Result<std::time::Duration, String> {
    edgetrail_settings::duration(text).ok_or_else(|| "write a duration such as 30m, 1h or 7d".to_owned())
}
