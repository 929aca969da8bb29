//! `agents list | show | revoke`.

use anyhow::{Context, bail};
use clap::Subcommand;
use edgetrail_proto::record::format_time;
use serde_json::{Value, json};

use super::print::table;
use super::{Of, Output, state};
use crate::control::{Agent, Control};

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Every agent that has joined
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// All that is known of one agent
    Show {
        /// Its id, the beginning of its id, or its host
        agent: String,
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Ends an agent's connections and lets it in no more, until it joins again with a token
    Revoke {
        /// Its id, the beginning of its id, or its host
        agent: String,
    },
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector agents list -o json
  edgetrail-collector agents show web-1
  edgetrail-collector agents revoke 0190b2a4";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { output } => {
            let agents = state::control(&state::config(of)?)?.agents().context("agents can't be listed")?;
            match output {
                Output::Json => println!("{}", Value::from_iter(agents.iter().map(shown))),
                Output::Text => {
                    let rows: Vec<_> = agents.iter().map(row).collect();
                    print!("{}", table(&["agent", "host", "account/region", "last seen", "certificate until", "state"], &rows));
                }
            }
        }
        Command::Show { agent, output } => {
            let agent = find(&state::control(&state::config(of)?)?, &agent)?;
            match output {
                Output::Json => println!("{}", shown(&agent)),
                Output::Text => {
                    for (name, value) in shown(&agent).as_object().into_iter().flatten() {
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        println!("{name:<20} {value}");
                    }
                }
            }
        }
        Command::Revoke { agent } => {
            let control = state::control(&state::config(of)?)?;
            let agent = find(&control, &agent)?;
            control.revoke_agent(agent.id, state::now_ns()).context("the agent can't be revoked")?;
            println!("revoked {} on {}; a running collector ends its connections within 5 s", agent.id, agent.host);
        }
    }
    Ok(())
}

/// By id, by the beginning of it, or by host: whatever names exactly one.
fn find(control: &Control, name: &str) -> anyhow::Result<Agent> {
    let agents = control.agents().context("agents can't be listed")?;
    let mut found: Vec<Agent> =
        agents.into_iter().filter(|agent| agent.host == name || agent.id.to_string().starts_with(name)).collect();
    match (found.pop(), found.len()) {
        (Some(agent), 0) => Ok(agent),
        (Some(_), others) => bail!("`{name}` names {} agents: give an id, as `agents list` shows it", others + 1),
        (None, _) => bail!("no agent `{name}` has joined: `agents list` shows all"),
    }
}

fn row(agent: &Agent) -> Vec<String> {
    let time = |ns: Option<u64>| ns.map_or_else(|| "never".to_owned(), format_time);
    let state = if agent.revoked_ns.is_some() { "revoked" } else { "joined" };
    vec![
        agent.id.to_string(),
        agent.host.clone(),
        scopes(agent).join(" "),
        time(agent.last_seen_ns),
        format_time(agent.certificate_expires_ns),
        state.to_owned(),
    ]
}

fn shown(agent: &Agent) -> Value {
    json!({
        "agent": agent.id.to_string(),
        "host": agent.host,
        "version": agent.version,
        "scopes": scopes(agent),
        "gateway": agent.gateway,
        "certificateSerial": agent.certificate_serial,
        "certificateExpires": format_time(agent.certificate_expires_ns),
        "joined": format_time(agent.joined_ns),
        "revoked": agent.revoked_ns.map(format_time),
        "lastSeen": agent.last_seen_ns.map(format_time),
    })
}

fn scopes(agent: &Agent) -> Vec<String> {
    agent.scopes.iter().map(|(account, region)| format!("{account}/{region}")).collect()
}
