//! `principal list | show | put-policy | delete`.

use std::path::Path;

use anyhow::{Context, bail};
use clap::Subcommand;
use edgetrail_policy::Managed;
use edgetrail_proto::identity::AccountId;
use edgetrail_proto::record::format_time;
use serde_json::{Value, json};

use super::print::table;
use super::{Of, Output, state};
use crate::control::{Attached, ControlError, Principal};

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Every principal and the names of its policies
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// One principal with its policies' documents
    Show {
        #[command(flatten)]
        who: Who,
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Gives it these policies in place of those that it has, from its next call on
    PutPolicy {
        #[command(flatten)]
        who: Who,
        /// viewer, investigator, auditor, administrator, or a file with a policy in IAM's JSON; may be repeated
        #[arg(required = true, value_name = "POLICY")]
        policies: Vec<String>,
    },
    /// Deletes one that has no keys any more
    Delete {
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// The user name in the records of its calls
    name: String,
    /// The account in which it calls [default: the home account]
    #[arg(long)]
    account: Option<AccountId>,
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector principal list
  edgetrail-collector principal show ops -o json
  edgetrail-collector principal put-policy ops auditor ./no-lookups-at-night.json
  edgetrail-collector principal delete ops

A principal is made with its first key: edgetrail-collector access-key create --name ops --policy viewer";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let config = state::config(of)?;
    let control = state::control(&config)?;
    let account = |who: &Who| who.account.unwrap_or(config.home.account);
    match command {
        Command::List { output } => {
            let principals = control.principals().context("principals can't be listed")?;
            match output {
                Output::Json => println!("{}", Value::from_iter(principals.iter().map(shown))),
                Output::Text => print!("{}", table(&["name", "account", "policies", "created"], &rows(&principals))),
            }
        }
        Command::Show { who, output } => {
            let found = control.principal(&account(&who), &who.name)?;
            let principal = found.ok_or(ControlError::NoPrincipal { name: who.name })?;
            match output {
                Output::Json => println!("{}", shown(&principal)),
                Output::Text => print!("{}", described(&principal)),
            }
        }
        Command::PutPolicy { who, policies } => {
            control.put_principal(&account(&who), &who.name, &attached(&policies)?, state::now_ns())?;
            println!("{} now has {}", who.name, policies.join(", "));
        }
        Command::Delete { who } => {
            control.delete_principal(&account(&who), &who.name, state::now_ns())?;
            println!("deleted {}", who.name);
        }
    }
    Ok(())
}

/// What the words of a command line name: a policy that comes with the product, or a file.
pub(super) fn attached(words: &[String]) -> anyhow::Result<Vec<Attached>> {
    words.iter().map(|word| one(word)).collect()
}

fn one(word: &str) -> anyhow::Result<Attached> {
    if let Some(managed) = Managed::ALL.into_iter().find(|managed| managed.name().eq_ignore_ascii_case(word)) {
        return Ok(Attached::managed(managed));
    }
    let path = Path::new(word);
    if !path.exists() {
        let names = Managed::ALL.map(|managed| managed.name().to_lowercase()).join(", ");
        bail!("`{word}` is neither a policy that comes with the product ({names}) nor a file");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{word} can't be read"))?;
    let name: String = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Attached::document(&name, &text).with_context(|| format!("{word} is no policy"))
}

fn rows(principals: &[Principal]) -> Vec<Vec<String>> {
    let names = |principal: &Principal| principal.attached.iter().map(Attached::name).collect::<Vec<_>>().join(", ");
    let row = |principal: &Principal| {
        vec![principal.name.clone(), principal.account.to_string(), names(principal), format_time(principal.created_ns)]
    };
    principals.iter().map(row).collect()
}

fn shown(principal: &Principal) -> Value {
    let policy = |attached: &Attached| match attached {
        Attached::Managed(name) => json!({ "name": name, "managed": true }),
        Attached::Document { name, text } => {
            json!({ "name": name, "managed": false, "document": serde_json::from_str(text).unwrap_or(Value::Null) })
        }
    };
    json!({
        "name": principal.name,
        "account": principal.account,
        "policies": principal.attached.iter().map(policy).collect::<Vec<_>>(),
        "created": format_time(principal.created_ns),
    })
}

/// Every document, those that come with the product too: what the principal may do.
fn described(principal: &Principal) -> String {
    let mut out = format!("{} of account {}\n", principal.name, principal.account);
    for attached in &principal.attached {
        let (name, text) = match attached {
            Attached::Managed(name) => (name, Managed::of(name).map(Managed::text).unwrap_or_default()),
            Attached::Document { name, text } => (name, text.as_str()),
        };
        out.push_str(&format!("\n# {name}\n{}\n", text.trim_end()));
    }
    out
}
