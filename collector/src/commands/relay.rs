//! `relay list | forget | revoke`: home's side of its relays; `relay join | status`: a relay's own.

use anyhow::Context;
use clap::Subcommand;
use edgetrail_disk::Medium;
use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::RelayName;
use edgetrail_proto::record::format_time;
use serde_json::{Value, json};

use super::print::table;
use super::{Of, Output, relay_join, state};
use crate::config::Config;
use crate::control::Relay;
use crate::ledger::{Forks, Waiting};
use crate::relay::{Owed, RelayPapers, owed};

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Makes this collector a relay of a home
    #[command(after_help = relay_join::EXAMPLES)]
    Join(relay_join::Arguments),
    /// At a relay: what home has not got yet of what it holds
    #[command(after_help = STATUS)]
    Status {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// At home: every relay that has joined, how it stands, and which streams wait for it
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Gives up whatever only this relay could still bring: streams that wait for it go on, and a gap reports what is lost
    #[command(after_help = FORGET)]
    Forget { name: RelayName },
    /// Ends a relay's connections and lets it in no more, until it joins again with a token
    Revoke { name: RelayName },
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector relay list -o json
  edgetrail-collector relay forget tokyo-1
  edgetrail-collector relay revoke tokyo-1";

const STATUS: &str = "Examples:
  edgetrail-collector relay status
  edgetrail-collector relay status -o json

Exit codes: 0 done, 1 it failed, or no relay has joined here.";

const FORGET: &str = "Only for a relay whose disk is gone. If it comes back after all, what it brings is still taken.
A forgotten relay that joins again needs a new receipt key.";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let command = match command {
        Command::Join(arguments) => return relay_join::run(of, &arguments),
        Command::Status { output } => return status(&state::config(of)?, output),
        command => command,
    };
    let config = state::config(of)?;
    let control = state::control(&config)?;
    match command {
        Command::Join(_) | Command::Status { .. } => {}
        Command::List { output } => {
            let relays = control.relays().context("relays can't be listed")?;
            let waiting = waiting(&config)?;
            let shown = relays.iter().map(|relay| (relay, waits_for(relay, &waiting)));
            match output {
                Output::Json => println!("{}", Value::from_iter(shown.map(|(relay, waits)| json_of(relay, &waits)))),
                Output::Text => {
                    let rows: Vec<_> = shown.map(|(relay, waits)| row(relay, &waits)).collect();
                    print!("{}", table(&HEAD, &rows));
                }
            }
        }
        Command::Forget { name } => {
            control.forget_relay(&name, state::now_ns()).context("the relay can't be forgotten")?;
            println!(
                "forgot {name}: within 5 s of a running collector, streams that wait for it go on and gaps report what is lost"
            );
        }
        Command::Revoke { name } => {
            control.revoke_relay(&name, state::now_ns()).context("the relay can't be revoked")?;
            println!("revoked {name}; a running collector ends its connections within 5 s");
        }
    }
    Ok(())
}

const HEAD: [&str; 9] = [
    "relay",
    "names",
    "connected since",
    "last seen",
    "agents owing",
    "last receipt",
    "certificate until",
    "streams waiting",
    "state",
];

#[expect(clippy::print_stdout, reason = "the command's result")]
fn status(config: &Config, output: Output) -> anyhow::Result<()> {
    let papers = RelayPapers::load(&config.state_dir).context("what the relay is can't be read")?;
    let Owed { connected_ns, last_receipt_ns, agents, notices } = owed(&Medium::real(), &config.state_dir)?;
    let batches: u64 = agents.values().sum();
    match output {
        Output::Json => {
            let agents = agents.iter().map(|(agent, batches)| json!({ "agent": agent.to_string(), "batches": batches }));
            let status = json!({
                "relay": papers.identity.name.to_string(),
                "home": papers.home.to_string(),
                "connectedSince": connected_ns.map(format_time),
                "lastReceipt": last_receipt_ns.map(format_time),
                "owing": { "agents": Value::from_iter(agents), "batches": batches },
                "securityEventsToReport": notices,
            });
            println!("{status}");
        }
        Output::Text => {
            let since = |at: Option<u64>, never: &str| at.map_or_else(|| never.to_owned(), format_time);
            println!("relay {} of {}", papers.identity.name, papers.home);
            println!("connected since  {}", since(connected_ns, "not connected"));
            println!("last receipt     {}", since(last_receipt_ns, "never"));
            println!("owing            {batches} batches of {} agents, {notices} security events", agents.len());
        }
    }
    Ok(())
}

/// Nothing waits where no ledger is yet.
fn waiting(config: &Config) -> anyhow::Result<Vec<Waiting>> {
    let dir = config.state_dir.join("ledger");
    if !dir.join("ledger.sqlite").exists() {
        return Ok(Vec::new());
    }
    let ledger = Forks::open(&Medium::real(), &dir).context("the ledger can't be read")?;
    ledger.waiting().context("the streams that wait can't be listed")
}

fn waits_for<'a>(relay: &Relay, waiting: &'a [Waiting]) -> Vec<&'a Waiting> {
    let keys: Vec<Hash> = relay.receipt_keys.iter().map(|key| Hash::of(&key.public_key.0)).collect();
    waiting.iter().filter(|waiting| keys.contains(&waiting.signer)).collect()
}

fn state_of(relay: &Relay) -> &'static str {
    match (relay.revoked_ns, relay.forgotten_ns) {
        (Some(_), _) => "revoked",
        (None, Some(_)) => "forgotten",
        (None, None) => "joined",
    }
}

fn row(relay: &Relay, waits: &[&Waiting]) -> Vec<String> {
    vec![
        relay.name.to_string(),
        relay.names.join(" "),
        relay.connected_ns.map_or_else(|| "not connected".to_owned(), format_time),
        relay.last_seen_ns.map_or_else(|| "never".to_owned(), format_time),
        relay.standing.map_or_else(|| "unknown".to_owned(), |standing| standing.owing.to_string()),
        relay.standing.and_then(|standing| standing.last_receipt_ns).map_or_else(|| "never".to_owned(), format_time),
        format_time(relay.certificate_expires_ns),
        waits.len().to_string(),
        state_of(relay).to_owned(),
    ]
}

fn json_of(relay: &Relay, waits: &[&Waiting]) -> Value {
    let waits = waits.iter().map(|waiting| {
        let Waiting { info, from, to, .. } = waiting;
        json!({ "agent": info.agent.to_string(), "stream": info.stream.to_string(), "fromBatch": from, "toBatch": to })
    });
    json!({
        "relay": relay.name.to_string(),
        "names": relay.names,
        "version": relay.version,
        "certificateSerial": relay.certificate_serial,
        "certificateExpires": format_time(relay.certificate_expires_ns),
        "receiptKeys": Value::from_iter(relay.receipt_keys.iter().map(|key| Hash::of(&key.public_key.0).to_string())),
        "joined": format_time(relay.joined_ns),
        "revoked": relay.revoked_ns.map(format_time),
        "forgotten": relay.forgotten_ns.map(format_time),
        "lastSeen": relay.last_seen_ns.map(format_time),
        "connectedSince": relay.connected_ns.map(format_time),
        // As the relay has said last.
        "owing": relay.standing.map(|standing| standing.owing),
        "owingAndWaiting": relay.standing.map(|standing| standing.waiting),
        "lastReceipt": relay.standing.and_then(|standing| standing.last_receipt_ns).map(format_time),
        "waiting": Value::from_iter(waits),
        "state": state_of(relay),
    })
}
