//! `status`: depth, head, lag, gaps, certificate, each source.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Output;
use crate::clock::unix_ns;
use crate::config::Config;
use crate::control::Request;

/// How long a running agent may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

pub(super) fn execute(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let running = ask(config)?;
    let is_running = running.is_some();
    let status = match running {
        Some(status) => status,
        None => {
            let buffer = crate::buffer::status(&config.state_dir).with_context(|| {
                format!(
                    "no agent runs, and there is no buffer to read in {}: join first, or give --config",
                    config.state_dir.display()
                )
            })?;
            json!({ "running": false, "buffer": buffer, "certificate_ends": crate::run::certificate_ends(&config.state_dir) })
        }
    };
    match output {
        Output::Json => println!("{status}"),
        Output::Text => print(&status, is_running),
    }
    Ok(if is_running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The running agent's own word, if one runs.
fn ask(config: &Config) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(&config.control_socket) else { return Ok(None) };
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    writeln!(stream, "{}", serde_json::to_string(&Request::Status)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the running agent does not answer")?;
    let status: Value = serde_json::from_str(&line).context("the running agent's answer can't be read")?;
    if let Some(error) = status["error"].as_str() {
        anyhow::bail!("the running agent can't read its buffer: {error}");
    }
    Ok(Some(status))
}

fn print(status: &Value, is_running: bool) {
    let number = |path: &str| status.pointer(path).and_then(Value::as_u64);
    let text = |path: &str| status.pointer(path).and_then(Value::as_str).unwrap_or("none").to_owned();
    let time = |path: &str| number(path).map_or_else(|| "?".to_owned(), edgetrail_proto::record::format_time);
    println!("agent        {}", if is_running { "running" } else { "not running: start it with `edgetrail-agent run`" });
    for source in status["sources"].as_array().into_iter().flatten() {
        let name = source["source"].as_str().unwrap_or_default();
        match source["reason"].as_str() {
            None => println!("source       {name}: on"),
            Some(trouble) if source["on"] == true => println!("source       {name}: on, but {trouble}"),
            Some(reason) => println!("source       {name}: off, {reason}"),
        }
    }
    match (status.pointer("/uplink/connected").and_then(Value::as_str), status.pointer("/uplink/trouble").and_then(Value::as_str))
    {
        (Some(endpoint), _) => println!("uplink       connected to {endpoint} since {}", time("/uplink/since")),
        (None, Some(trouble)) => println!("uplink       not connected: {trouble}"),
        (None, None) => println!("uplink       not connected"),
    }
    for passed in status.pointer("/uplink/passed_over").and_then(Value::as_array).into_iter().flatten() {
        let since = passed["since"].as_u64().map_or_else(String::new, edgetrail_proto::record::format_time);
        let text = |name: &str| passed[name].as_str().unwrap_or_default().to_owned();
        println!("preferred    {} not used since {since}: {}", text("collector"), text("error"));
    }
    for waiting in status.pointer("/uplink/waiting").and_then(Value::as_array).into_iter().flatten() {
        let (number, text) =
            (|name: &str| waiting[name].as_u64().unwrap_or(0), |name: &str| waiting[name].as_str().unwrap_or("?"));
        println!("standstill   stream {}: the collector lacks batches {} to {}", text("stream"), number("from"), number("to"));
        println!(
            "             the collector whose receipt key is {} gave a receipt for them and is to bring them",
            text("signer")
        );
    }
    println!("stream       {}", text("/buffer/stream"));
    match number("/buffer/head/k") {
        Some(k) => println!("head         batch {k}, {}", text("/buffer/head/hash")),
        None => println!("head         none yet"),
    }
    let lag = number("/buffer/oldest").map_or(0, |oldest| unix_ns().saturating_sub(oldest) / 1_000_000_000);
    let (records, bytes) = (number("/buffer/records").unwrap_or(0), number("/buffer/bytes").unwrap_or(0));
    println!("waiting      {records} records, {bytes} bytes, the oldest for {lag} s");
    let lost = |name: &str| number(&format!("/buffer/counters/{name}")).unwrap_or(0);
    println!(
        "seen         {} observed, {} refused, {} lost",
        lost("observed"),
        lost("refused"),
        lost("lost_agent") + lost("lost_source")
    );
    match status["certificate_ends"].as_i64().and_then(|end| u64::try_from(end).ok()) {
        Some(end) => println!("certificate  until {}", edgetrail_proto::record::format_time(end.saturating_mul(1_000_000_000))),
        None => println!("certificate  none: join a collector"),
    }
    if let Some(forked) = status.pointer("/buffer/forked").and_then(Value::as_str) {
        println!(
            "FORK         the collector holds two branches of stream {forked}: find the clone, then join again with a token"
        );
    }
}
