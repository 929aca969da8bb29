//! `ca show | rotate | retire`: the root of the built-in authority, and its replacement without joining anybody anew.

use anyhow::{Context, bail};
use clap::Subcommand;
use edgetrail_link::tls::{self, CaPin};
use edgetrail_proto::record::format_time;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::{Of, Output, state};
use crate::config::Config;
use crate::control::{Agent, Relay};
use crate::pki::{CA_FILE, LOOK_INTERVAL, RENEWAL_GRACE, issued_at, rotation};

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// The roots that are trusted now, and which agents and relays still need the former one
    Show {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Makes a second root: agents and relays learn it when they renew, both are trusted meanwhile
    Rotate,
    /// Ends the rotation: the former root is trusted no more and its key is removed
    Retire {
        /// Although agents or relays still need it: those will have to join again with a token
        #[arg(long)]
        force: bool,
    },
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector ca rotate            at any time; nothing is interrupted
  edgetrail-collector ca show              until nobody needs the former root, a day later
  edgetrail-collector ca retire

Clients of the API trust pki/ca.pem: hand the new file, which holds both roots, out before `ca retire`.
Auditors pass pki/roots.pem, which holds the retired roots too, to `edgetrail-verify --ca`.";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let config = state::config(of)?;
    // A collector must have been started before: the authority is its own to create.
    let control = state::control(&config)?;
    let agents = control.agents().context("agents can't be listed")?;
    let relays = control.relays().context("relays can't be listed")?;
    let directory = config.state_dir.join("pki");
    match command {
        Command::Show { output } => show(&config, &agents, &relays, output)?,
        Command::Rotate => {
            let rotated = control.noting("RotateRoot", json!({}), state::now_ns(), || rotation::rotate(&directory))?;
            rotated.context("the root can't be rotated")?;
            println!("a second root is made; a running collector issues from it within {} s", LOOK_INTERVAL.as_secs());
            println!(
                "agents and relays learn it as they renew; when `edgetrail-collector ca show` names none any more: `ca retire`"
            );
        }
        Command::Retire { force } => {
            let needing = needing_former(&config, &agents, &relays)?;
            let is_needed = !needing.agents.is_empty() || !needing.relays.is_empty();
            if is_needed && !force {
                let hosts = needing.agents.iter().map(|agent| agent.host.as_str());
                let names: Vec<&str> = needing.relays.iter().map(|relay| relay.name.as_str()).chain(hosts).take(10).collect();
                let (agents, relays) = (needing.agents.len(), needing.relays.len());
                bail!(
                    "{agents} agents and {relays} relays have no certificate of the new root yet ({}{}): wait until they have \
                     renewed, revoke those that are gone, or use --force and join them again",
                    names.join(", "),
                    if agents + relays > names.len() { ", …" } else { "" }
                );
            }
            let (agents, relays) = (needing.agents.len(), needing.relays.len());
            let parameters = json!({ "force": force, "agentsThatNeedTheFormer": agents, "relaysThatNeedTheFormer": relays });
            let retired = control.noting("RetireRoot", parameters, state::now_ns(), || rotation::retire(&directory))?;
            retired.context("the former root can't be retired")?;
            println!("the former root is retired; a running collector trusts it for {} s more", LOOK_INTERVAL.as_secs());
        }
    }
    Ok(())
}

fn show(config: &Config, agents: &[Agent], relays: &[Relay], output: Output) -> anyhow::Result<()> {
    let roots = roots(config)?;
    let needing = if roots.len() > 1 { needing_former(config, agents, relays)? } else { Needing::default() };
    let shown = roots.iter().map(|root| {
        let expires = tls::validity_of(root).map_or(0, |(_, not_after)| u64::try_from(not_after).unwrap_or(0));
        (CaPin::of(root).to_string(), format_time(expires.saturating_mul(1_000_000_000)))
    });
    match output {
        Output::Json => {
            let roots: Vec<_> = shown.map(|(pin, expires)| json!({ "pin": pin, "expires": expires })).collect();
            let agents: Vec<_> = needing.agents.iter().map(|agent| agent.id.to_string()).collect();
            let relays: Vec<_> = needing.relays.iter().map(|relay| relay.name.to_string()).collect();
            println!("{}", json!({ "roots": roots, "agentsThatNeedTheFormer": agents, "relaysThatNeedTheFormer": relays }));
        }
        Output::Text => {
            for (number, (pin, expires)) in shown.enumerate() {
                println!("{}  {pin}  until {expires}", if number == 0 { "root" } else { "next" });
            }
            for agent in needing.agents {
                println!("needs the former root: {} on {}", agent.id, agent.host);
            }
            for relay in needing.relays {
                println!("needs the former root: relay {}", relay.name);
            }
        }
    }
    Ok(())
}

fn roots(config: &Config) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    tls::read_certificates(&config.state_dir.join("pki").join(CA_FILE)).context("the roots can't be read")
}

/// Who has only a certificate of the former root.
#[derive(Default)]
struct Needing<'a> {
    agents: Vec<&'a Agent>,
    relays: Vec<&'a Relay>,
}

/// Who may still renew and whose newest certificate is of before the rotation.
fn needing_former<'a>(config: &Config, agents: &'a [Agent], relays: &'a [Relay]) -> anyhow::Result<Needing<'a>> {
    let roots = roots(config)?;
    let Some(next) = roots.get(1) else { bail!("no rotation is under way: `edgetrail-collector ca rotate` begins one") };
    // The running collector issues from the new root a little after it was made.
    let rotated = issued_at(next).context("the new root can't be read")?.saturating_add(2 * LOOK_INTERVAL.as_secs());
    let (life, now) = (config.pki.certificate_life.as_secs(), state::now_ns() / 1_000_000_000);
    let needs = |revoked_ns: Option<u64>, expires_ns: u64| {
        let expires = expires_ns / 1_000_000_000;
        let may_renew = revoked_ns.is_none() && expires.saturating_add(RENEWAL_GRACE.as_secs()) > now;
        may_renew && expires.saturating_sub(life) <= rotated
    };
    Ok(Needing {
        agents: agents.iter().filter(|agent| needs(agent.revoked_ns, agent.certificate_expires_ns)).collect(),
        relays: relays.iter().filter(|relay| needs(relay.revoked_ns, relay.certificate_expires_ns)).collect(),
    })
}
