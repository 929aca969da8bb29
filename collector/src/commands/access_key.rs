//! `access-key create | list | delete`.

use anyhow::Context;
use clap::Subcommand;
use edgetrail_proto::identity::AccountId;
use edgetrail_proto::record::format_time;
use serde_json::{Value, json};

use super::print::table;
use super::{Of, Output, principal, state};
use crate::control::AccessKey;

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Makes a key and shows its secret, this once
    Create {
        /// Who calls with it: the user name in the records of its calls
        #[arg(long)]
        name: String,
        /// The account in which it calls [default: the home account]
        #[arg(long)]
        account: Option<AccountId>,
        /// What a name that is new may do: viewer, investigator, auditor, administrator, or a file with a policy in IAM's JSON;
        /// may be repeated [default: administrator of its account]
        #[arg(long = "policy", value_name = "POLICY")]
        policies: Vec<String>,
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Every key, without its secret
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Deletes a key: its next call is refused
    Delete {
        /// Its id, AKIA…
        id: String,
    },
}

const EXAMPLES: &str = "Examples:
  eval \"$(edgetrail-collector access-key create --name ops)\"
  edgetrail-collector access-key create --name anna --policy investigator -o json
  edgetrail-collector access-key list -o json
  edgetrail-collector access-key delete AKIAIOSFODNN7EXAMPLE";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name, account, policies, output } => {
            let config = state::config(of)?;
            let account = account.unwrap_or(config.home.account);
            let attached = principal::attached(&policies)?;
            let attached = (!attached.is_empty()).then_some(&attached[..]);
            let key = state::control(&config)?.create_access_key(account, &name, attached, state::now_ns());
            let key = key.context("the key can't be made")?;
            match output {
                Output::Text => {
                    println!("export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}", key.id, key.secret);
                }
                Output::Json => {
                    let mut shown = shown(&key);
                    shown["secret_access_key"] = key.secret.into();
                    println!("{shown}");
                }
            }
        }
        Command::List { output } => {
            let keys = state::control(&state::config(of)?)?.access_keys().context("keys can't be listed")?;
            match output {
                Output::Json => println!("{}", Value::from_iter(keys.iter().map(shown))),
                Output::Text => {
                    let row = |key: &AccessKey| {
                        vec![key.id.clone(), key.name.clone(), key.account.to_string(), format_time(key.created_ns)]
                    };
                    print!("{}", table(&["id", "name", "account", "created"], &keys.iter().map(row).collect::<Vec<_>>()));
                }
            }
        }
        Command::Delete { id } => {
            state::control(&state::config(of)?)?.delete_access_key(&id, state::now_ns())?;
            println!("deleted {id}");
        }
    }
    Ok(())
}

fn shown(key: &AccessKey) -> Value {
    json!({ "access_key_id": key.id, "name": key.name, "account": key.account, "created": format_time(key.created_ns) })
}
