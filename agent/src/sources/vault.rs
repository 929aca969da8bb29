//! The socket device of Vault's and OpenBao's audit: newline-delimited entries over a Unix socket or loopback TCP.
//!
//! Vault answers no request while every device of its blocks, so this one never does: it accepts and reads at once, and
//! what the agent can't take in time is counted and declared as a gap. A socket alone may lose entries while the agent
//! is down; a file device beside it does not ([`super::file`] reads that).

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::SourceError;
use super::inlet::{Door, Doors, Frames, Inlet};
use super::lines::Mapping;
use super::lines::shape::{AccessShape, Format};
use crate::observation::{Intake, SourceName};

/// The section `[sources.vault]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `socket_type=unix`.
    pub unix: Option<PathBuf>,
    /// `socket_type=tcp`; loopback only, for nothing is encrypted.
    pub tcp: Option<SocketAddr>,
    /// Who may write to the Unix socket, as permission bits in octal text.
    pub mode: String,
    /// `vault`, `openbao`, or the path of a mapping of format `vault`.
    pub mapping: String,
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { unix: None, tcp: None, mode: "0660".to_owned(), mapping: "vault".to_owned(), connections_max: 64 }
    }
}

impl Config {
    pub const fn is_off(&self) -> bool {
        self.unix.is_none() && self.tcp.is_none()
    }

    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        if let Some(address) = self.tcp.filter(|address| !address.ip().is_loopback()) {
            return Some(format!(
                "tcp: {address} is not loopback: Vault's socket device does not encrypt; use `unix`, or a file device"
            ));
        }
        if self.mode().is_none() {
            return Some(format!("mode: `{}` is no mode: give permission bits in octal such as `0660`", self.mode));
        }
        match Mapping::open(&self.mapping, AccessShape::default()) {
            Ok(mapping) if mapping.format != Format::Vault => {
                Some(format!("the mapping {} is not of format \"vault\"", self.mapping))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|bits| *bits <= 0o777)
    }
}

/// Listens as configured and hands on what comes until told to stop.
pub async fn run(config: &Config, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
    let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Vault, why };
    if let Some(trouble) = config.trouble() {
        return Err(unavailable(trouble));
    }
    let failed = |cause: std::io::Error| SourceError::Failed {
        source_name: SourceName::Vault,
        doing: "listening for Vault".to_owned(),
        cause: Box::new(cause),
    };
    let mapping = Mapping::open(&config.mapping, AccessShape::default()).map_err(|error| unavailable(error.to_string()))?;
    let mut doors = Vec::new();
    if let Some(path) = &config.unix {
        doors.push(Door::stream(path, config.mode().unwrap_or(0o660)).map_err(failed)?);
    }
    if let Some(address) = &config.tcp {
        doors.push(Door::Tcp(TcpListener::bind(address).await.map_err(failed)?));
    }
    let doors = Doors { doors, connections_max: config.connections_max, frames: Frames::lines };
    super::syslog::serve(doors, Inlet::new(SourceName::Vault, mapping, false), intake, stop).await;
    Ok(())
}
