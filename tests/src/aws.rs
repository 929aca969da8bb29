//! The unmodified AWS CLI, as `tests/setup` installs it.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::{succeed, text, workspace};

/// Where a CLI call goes, and as whom.
#[derive(Debug, Clone)]
pub struct Client {
    /// The collector's API, for all services.
    pub endpoint: String,
    /// Another S3 than the collector's own face, if any.
    pub s3_endpoint: Option<String>,
    pub region: String,
    pub access_key: String,
    pub secret: String,
    /// For an endpoint under TLS.
    pub ca_bundle: Option<PathBuf>,
}

impl Client {
    /// `aws ARGUMENTS`, with nothing taken from the caller's environment or home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let venv = workspace().join(".venv/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        // No other CLI on this machine will do: what it reports depends on its version.
        let cli = venv.join("aws");
        assert!(cli.is_file(), "{} is missing: run `make setup`", cli.display());
        let mut command = Command::new(cli);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:{path}", venv.display()))
            .env("HOME", "/nonexistent")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_DEFAULT_REGION", &self.region)
            .env("AWS_MAX_ATTEMPTS", "1");
        if let Some(bundle) = &self.ca_bundle {
            command.env("AWS_CA_BUNDLE", bundle);
        }
        if let Some(endpoint) = &self.s3_endpoint {
            command.env("AWS_ENDPOINT_URL_S3", endpoint);
        }
        command
    }

    /// Runs a call that must succeed and gives its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = succeed(self.command(arguments).args(["--output", "json"]));
        if output.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", text(&output)))
    }

    /// Runs a call whatever becomes of it.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap_or_else(|error| panic!("the AWS CLI does not start ({error}): run `make setup`"))
    }
}
