//! `ca show | rotate | retire`: the root of the built-in authority, and its replacement without joining anybody anew.

use anyhow::{Context, bail};
use clap::Subcommand;
use edgetrail_link::tls::{self, CaPin};
use edgetrail_proto::record::format_time;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::{Of, Output, state};
use crate::config::Config;
use crate::control::Agent;
use crate::pki::{CA_FILE, LOOK_INTERVAL, RENEWAL_GRACE, issued_at, rotation};

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// The roots that are trusted now, and how many agents still need the former one
    Show {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Makes a second root: agents learn it when they renew, both are trusted meanwhile
    Rotate,
    /// Ends the rotation: the former root is trusted no more and its key is removed
    Retire {
        /// Although agents still need it: those will have to join again with a token
        #[arg(long)]
        force: bool,
    },
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector ca rotate            at any time; nothing is interrupted
  edgetrail-collector ca show              until no agent needs the former root, a day later
  edgetrail-collector ca retire

Clients of the API trust pki/ca.pem: hand the new file, which holds both roots, out before `ca retire`.
Auditors pass pki/roots.pem, which holds the retired roots too, to `edgetrail-verify --ca`.";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let config = state::config(of)?;
    // A collector must have been started before: the authority is its own to create.
    let control = state::control(&config)?;
    let agents = control.agents().context("agents can't be listed")?;
    let directory = config.state_dir.join("pki");
    match command {
        Command::Show { output } => show(&config, &agents, output)?,
        Command::Rotate => {
            let rotated = control.noting("RotateRoot", json!({}), state::now_ns(), || rotation::rotate(&directory))?;
            rotated.context("the root can't be rotated")?;
            println!("a second root is made; a running collector issues from it within {} s", LOOK_INTERVAL.as_secs());
            println!("agents learn it as they renew; when `edgetrail-collector ca show` names none any more: `ca retire`");
        }
        Command::Retire { force } => {
            let needing = needing_former(&config, &agents)?;
            if !needing.is_empty() && !force {
                let names: Vec<&str> = needing.iter().take(10).map(|agent| agent.host.as_str()).collect();
                bail!(
                    "{} agents have no certificate of the new root yet ({}{}): wait until they have renewed, revoke those that \
                     are gone, or use --force and join them again",
                    needing.len(),
                    names.join(", "),
                    if needing.len() > names.len() { ", …" } else { "" }
                );
            }
            let parameters = json!({ "force": force, "agentsThatNeedTheFormer": needing.len() });
            let retired = control.noting("RetireRoot", parameters, state::now_ns(), || rotation::retire(&directory))?;
            retired.context("the former root can't be retired")?;
            println!("the former root is retired; a running collector trusts it for {} s more", LOOK_INTERVAL.as_secs());
        }
    }
    Ok(())
}

fn show(config: &Config, agents: &[Agent], output: Output) -> anyhow::Result<()> {
    let roots = roots(config)?;
    let needing = if roots.len() > 1 { needing_former(config, agents)? } else { Vec::new() };
    let shown = roots.iter().map(|root| {
        let expires = tls::validity_of(root).map_or(0, |(_, not_after)| u64::try_from(not_after).unwrap_or(0));
        (CaPin::of(root).to_string(), format_time(expires.saturating_mul(1_000_000_000)))
    });
    match output {
        Output::Json => {
            let roots: Vec<_> = shown.map(|(pin, expires)| json!({ "pin": pin, "expires": expires })).collect();
            let needing: Vec<_> = needing.iter().map(|agent| agent.id.to_string()).collect();
            println!("{}", json!({ "roots": roots, "agentsThatNeedTheFormer": needing }));
        }
        Output::Text => {
            for (number, (pin, expires)) in shown.enumerate() {
                println!("{}  {pin}  until {expires}", if number == 0 { "root" } else { "next" });
            }
            for agent in needing {
                println!("needs the former root: {} on {}", agent.id, agent.host);
            }
        }
    }
    Ok(())
}

fn roots(config: &Config) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    tls::read_certificates(&config.state_dir.join("pki").join(CA_FILE)).context("the roots can't be read")
}

/// Agents that may still renew and whose newest certificate is of before the rotation.
fn needing_former<'a>(config: &Config, agents: &'a [Agent]) -> anyhow::Result<Vec<&'a Agent>> {
    let roots = roots(config)?;
    let Some(next) = roots.get(1) else { bail!("no rotation is under way: `edgetrail-collector ca rotate` begins one") };
    // The running collector issues from the new root a little after it was made.
    let rotated = issued_at(next).context("the new root can't be read")?.saturating_add(2 * LOOK_INTERVAL.as_secs());
    let (life, now) = (config.pki.certificate_life.as_secs(), state::now_ns() / 1_000_000_000);
    let needs = |agent: &&Agent| {
        let expires = agent.certificate_expires_ns / 1_000_000_000;
        let may_renew = agent.revoked_ns.is_none() && expires.saturating_add(RENEWAL_GRACE.as_secs()) > now;
        may_renew && expires.saturating_sub(life) <= rotated
    };
    Ok(agents.iter().filter(needs).collect())
}
