//! Syslog from other hosts and devices: RFC 5424 and 3164 over UDP, TCP, TLS and Unix sockets.
//!
//! UDP's and plain TCP's senders are not known to be who they say, nor told that a message arrived; loss of datagrams is
//! counted from the kernel. A stream's sender waits while the pipeline is full, so nothing of a stream is given up.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::SourceError;
use super::inlet::{Door, Doors, Frames, Inlet};
use super::lines::Mapping;
use super::lines::shape::{AccessShape, Format};
use super::listener::{Settings, Tls};
use crate::observation::{Intake, SourceName};

/// The section `[sources.syslog]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    /// RFC 5425; needs `certificate` and `key`.
    pub tls: Vec<SocketAddr>,
    /// Stream sockets, and datagram sockets as `/dev/log` is one.
    pub unix: Vec<PathBuf>,
    pub unix_datagram: Vec<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: senders must show a certificate of one of these.
    pub client_ca: Option<PathBuf>,
    /// A mapping of format `syslog`: the shipped one's name, or the path of a file.
    pub mapping: String,
    pub connections_max: usize,
}

/// Connections served at once unless configured: each sender opens one.
const CONNECTIONS_MAX_DEFAULT: usize = 256;

/// Who may write to a Unix socket: everybody, as to `/dev/log`.
const UNIX_MODE: u32 = 0o666;

impl Default for Config {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            unix: Vec::new(),
            unix_datagram: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            mapping: "syslog".to_owned(),
            connections_max: CONNECTIONS_MAX_DEFAULT,
        }
    }
}

impl Config {
    pub fn is_off(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty() && self.tls.is_empty() && self.unix.is_empty() && self.unix_datagram.is_empty()
    }

    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        if !self.tls.is_empty() && (self.certificate.is_none() || self.key.is_none()) {
            return Some("`tls` needs `certificate` and `key`".to_owned());
        }
        match Mapping::open(&self.mapping, AccessShape::default()) {
            Ok(mapping) if mapping.format != Format::Syslog => {
                Some(format!("the mapping {} is not of format \"syslog\"", self.mapping))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            listen: self.tls.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            token_file: None,
            is_signed: false,
            connections_max: self.connections_max,
            body_bytes_max: 0,
        }
    }
}

/// Listens as configured and hands on what comes until told to stop.
pub async fn run(config: &Config, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
    let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Syslog, why };
    let failed = |at: String| {
        move |cause: std::io::Error| SourceError::Failed {
            source_name: SourceName::Syslog,
            doing: format!("listening on {at}"),
            cause: Box::new(cause),
        }
    };
    if let Some(trouble) = config.trouble() {
        return Err(unavailable(trouble));
    }
    let mapping = Mapping::open(&config.mapping, AccessShape::default()).map_err(|error| unavailable(error.to_string()))?;
    let mut doors = Vec::new();
    for address in &config.udp {
        doors.push(Door::udp(*address).await.map_err(failed(format!("udp {address}")))?);
    }
    for address in &config.tcp {
        doors.push(Door::Tcp(TcpListener::bind(address).await.map_err(failed(format!("tcp {address}")))?));
    }
    if !config.tls.is_empty() {
        let tls = Tls::open(&config.settings()).map_err(|error| unavailable(error.to_string()))?;
        let tls = std::sync::Arc::new(tls.ok_or_else(|| unavailable("`tls` needs `certificate` and `key`".to_owned()))?);
        for address in &config.tls {
            let listener = TcpListener::bind(address).await.map_err(failed(format!("tls {address}")))?;
            doors.push(Door::Tls(listener, std::sync::Arc::clone(&tls)));
        }
    }
    for path in &config.unix {
        doors.push(Door::stream(path, UNIX_MODE).map_err(failed(path.display().to_string()))?);
    }
    for path in &config.unix_datagram {
        doors.push(Door::datagram(path, UNIX_MODE).map_err(failed(path.display().to_string()))?);
    }
    let doors = Doors { doors, connections_max: config.connections_max, frames: Frames::syslog };
    let inlet = Inlet::new(SourceName::Syslog, mapping, true);
    serve(doors, inlet, intake, stop).await;
    Ok(())
}

/// Serves and forwards; what was read before the stop is handed on after it.
pub(super) async fn serve(doors: Doors, inlet: Inlet, intake: Intake, stop: CancellationToken) {
    let served = CancellationToken::new();
    let serving = async {
        doors.serve(&inlet, &stop).await;
        served.cancel();
    };
    tokio::join!(serving, inlet.clone().forward(intake, served.clone()));
}
