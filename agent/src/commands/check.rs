//! `check`: every error of the configuration at once, and what this host offers.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use serde::Serialize;

use super::Output;
use crate::clock::unix_ns;
use crate::config::{Config, ConfigError};
use crate::enroll::Enrollment;
use crate::sources::{audit, cloudtrail, docker, proxy};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

pub(super) fn execute(config: Result<Config, ConfigError>, output: Output) -> anyhow::Result<ExitCode> {
    let findings = match config {
        Ok(config) => look(&config),
        Err(error) => {
            vec![Finding { what: "configuration", level: Level::Error, text: format!("{:#}", anyhow::Error::from(error)) }]
        }
    };
    let failed = findings.iter().any(|finding| finding.level == Level::Error);
    match output {
        Output::Json => println!("{}", serde_json::to_string(&findings)?),
        Output::Text => {
            for Finding { what, level, text } in &findings {
                let level = match level {
                    Level::Ok => "ok",
                    Level::Warning => "warning",
                    Level::Error => "ERROR",
                };
                println!("{level:8} {what:17} {text}");
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn look(config: &Config) -> Vec<Finding> {
    let finding = |what, level, text: String| Finding { what, level, text };
    let mut findings = vec![finding("configuration", Level::Ok, "every key is known and valid".to_owned())];
    findings.push(state_dir(config));
    findings.push(match Enrollment::load(&config.state_dir) {
        Ok(Some(enrollment)) => identity(&enrollment),
        Ok(None) => finding("identity", Level::Error, "not joined: run `edgetrail-agent join`".to_owned()),
        Err(error) => finding("identity", Level::Error, error.to_string()),
    });
    findings.push(match crate::buffer::status(&config.state_dir) {
        Ok(status) => finding("buffer", Level::Ok, format!("{} records, {} bytes wait", status.records, status.bytes)),
        Err(_) => finding("buffer", Level::Warning, "none yet, or not readable by this user".to_owned()),
    });
    findings.push(audit_source(config));
    findings.push(journal_source(config));
    findings.push(match config.sources.file.len() {
        0 => finding("source file", Level::Ok, "off: no [[sources.file]]".to_owned()),
        sections => finding("source file", Level::Ok, format!("{sections} section(s)")),
    });
    findings.push(match config.sources.api.enabled {
        true => {
            let path = config.sources.api.path.clone().unwrap_or_else(|| config.state_dir.join("api.sock"));
            match config.sources.api.ready() {
                Ok(()) => {
                    let places = std::iter::once(path.display().to_string());
                    let places: Vec<_> = places.chain(config.sources.api.listen.iter().map(SocketAddr::to_string)).collect();
                    finding("source api", Level::Ok, format!("on {}", places.join(", ")))
                }
                Err(why) => finding("source api", Level::Error, why),
            }
        }
        false => finding("source api", Level::Ok, "off: sources.api.enabled".to_owned()),
    });
    findings.push(listening(
        "source kubernetes",
        "sources.kubernetes",
        &config.sources.kubernetes.listen,
        config.sources.kubernetes.ready(),
    ));
    findings.push(listening("source sudo", "sources.sudo", &config.sources.sudo.listen, config.sources.sudo.ready()));
    findings.push(listening("source otlp", "sources.otlp", &config.sources.otlp.listen, config.sources.otlp.ready()));
    findings.push(docker(config));
    findings.push(socket("source vault", config.sources.vault.is_off(), "sources.vault.unix or .tcp"));
    findings.push(socket("source syslog", config.sources.syslog.is_off(), "a socket of sources.syslog"));
    findings.extend(cloudtrail(config));
    findings.extend(proxies(config));
    findings
}

/// A source that is posted to over the network: on which addresses, or what keeps it from them.
fn listening(what: &'static str, section: &str, listen: &[SocketAddr], ready: Result<(), String>) -> Finding {
    if listen.is_empty() {
        return Finding { what, level: Level::Ok, text: format!("off: {section}.listen is not given") };
    }
    match ready {
        Ok(()) => {
            let addresses: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
            Finding { what, level: Level::Ok, text: format!("on {}", addresses.join(", ")) }
        }
        Err(why) => Finding { what, level: Level::Error, text: why },
    }
}

fn docker(config: &Config) -> Finding {
    let what = "source docker";
    if config.sources.docker.is_off() {
        return Finding { what, level: Level::Ok, text: "off: sources.docker.sockets and .containerd are not given".to_owned() };
    }
    let sockets: Vec<_> = config.sources.docker.sockets.iter().chain(&config.sources.docker.containerd).collect();
    let refused = sockets.iter().find_map(|socket| Some((socket, docker::ready(socket).err()?)));
    match refused {
        None => Finding { what, level: Level::Ok, text: format!("follows {} engine(s)", sockets.len()) },
        Some((socket, error)) => {
            let text = format!("{}: {error}: let the agent's user write to it, as the group docker may", socket.display());
            Finding { what, level: Level::Warning, text }
        }
    }
}

/// What is wrong with these was found with the configuration.
fn socket(what: &'static str, is_off: bool, missing: &str) -> Finding {
    let text = if is_off { format!("off: give {missing}") } else { "listens as configured".to_owned() };
    Finding { what, level: Level::Ok, text }
}

fn cloudtrail(config: &Config) -> Vec<Finding> {
    let what = "source cloudtrail";
    let one = |section: &cloudtrail::Config| {
        let title = section.title();
        match section.directory.as_ref().map(std::fs::read_dir) {
            Some(Err(error)) => Finding { what, level: Level::Warning, text: format!("{title}: {error}") },
            Some(Ok(_)) | None => Finding { what, level: Level::Ok, text: format!("follows {title}") },
        }
    };
    config.sources.cloudtrail.iter().map(one).collect()
}

fn proxies(config: &Config) -> Vec<Finding> {
    let what = "source proxy";
    let one = |section: &proxy::Config| {
        let title = section.title();
        match section.ready() {
            Ok(None) => Finding { what, level: Level::Ok, text: format!("{title}: operations are named by method and route") },
            Ok(Some(operations)) => Finding { what, level: Level::Ok, text: format!("{title}: {operations} operations named") },
            Err(why) => Finding { what, level: Level::Error, text: format!("{title}: {why}") },
        }
    };
    config.sources.proxy.iter().map(one).collect()
}

fn state_dir(config: &Config) -> Finding {
    let what = "state";
    let dir = config.state_dir.display();
    match config.state_dir.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => Finding {
            what,
            level: Level::Warning,
            text: format!("{dir} is open to others (mode {:o}): chmod 700 it", metadata.mode() & 0o777),
        },
        Ok(_) => Finding { what, level: Level::Ok, text: dir.to_string() },
        Err(error) => Finding { what, level: Level::Error, text: format!("{dir}: {error}: join creates it") },
    }
}

fn identity(enrollment: &Enrollment) -> Finding {
    let identity = &enrollment.identity;
    let who = format!("agent {} of {} in {}", identity.agent_id, identity.account, identity.region);
    let now = i64::try_from(unix_ns() / 1_000_000_000).unwrap_or(i64::MAX);
    let (level, text) = match enrollment.validity() {
        Ok((_, end)) if end <= now => (Level::Warning, format!("{who}: the certificate has expired; a running agent renews it")),
        Ok(_) if !identity.region.looks_like_aws() => {
            (Level::Warning, format!("{who}: some clients take only regions like dc-tokyo-1"))
        }
        Ok(_) => (Level::Ok, who),
        Err(error) => (Level::Error, error.to_string()),
    };
    Finding { what: "identity", level, text }
}

fn audit_source(config: &Config) -> Finding {
    let what = "source audit";
    if !config.sources.audit.enabled {
        return Finding { what, level: Level::Ok, text: "off: sources.audit.enabled".to_owned() };
    }
    if let Err(error) = audit::socket::Listener::open_another() {
        return Finding { what, level: Level::Warning, text: format!("off: {error}") };
    }
    match audit::status::Control::open().and_then(|mut control| control.status()) {
        Ok(status) if status.enabled == 0 => {
            Finding { what, level: Level::Warning, text: audit::status::AUDITING_IS_OFF.to_owned() }
        }
        Ok(_) => Finding { what, level: Level::Ok, text: "the kernel's records can be read".to_owned() },
        Err(error) => Finding { what, level: Level::Warning, text: format!("the kernel's loss counter can't be read: {error}") },
    }
}

fn journal_source(config: &Config) -> Finding {
    let what = "source journal";
    if !config.sources.journal.enabled {
        return Finding { what, level: Level::Ok, text: "off: sources.journal.enabled".to_owned() };
    }
    let readable = |dir: &&std::path::PathBuf| std::fs::read_dir(dir).is_ok();
    match config.sources.journal.directories.iter().find(readable) {
        Some(dir) => Finding { what, level: Level::Ok, text: format!("reads {}", dir.display()) },
        None => {
            let text = "off: none of sources.journal.directories can be read; grant CAP_DAC_READ_SEARCH, or join the group systemd-journal";
            Finding { what, level: Level::Warning, text: text.to_owned() }
        }
    }
}
