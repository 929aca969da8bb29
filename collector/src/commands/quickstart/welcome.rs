//! What a quickstart prints once both run: what is captured, where the trail lies, what to type next.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::AGENT_TIME_MAX;
use super::kernel_audit::KernelAudit;
use super::layout::Layout;
use crate::config::Config;

pub(super) async fn print(layout: &Layout, config: &Config, agent: &Path, audit: &KernelAudit) {
    let dir = layout.dir().display();
    println!("Edgetrail is running: collector and agent on this machine, loopback only.\n");
    println!("Captured here:");
    let sources = sources(layout, agent).await;
    for (name, on, detail) in &sources {
        println!("  {name:<10} {:<4} {detail}", if *on { "on" } else { "off" });
    }
    if sources.is_empty() {
        println!("  the agent does not say; see {}", layout.agent_log().display());
    }
    if audit.is_off() {
        println!("  The kernel's audit is off. Start with --enable-audit to have it on while this runs.");
    }
    let trail = layout.trail().join(&config.trail.bucket);
    println!("\nThe trail:  {}/AWSLogs/…   log files every 10 s, digests every minute", trail.display());
    println!("\nTry, in another shell:");
    let arn = format!(
        "arn:{}:cloudtrail:{}:{}:trail/{}",
        config.home.partition, config.home.region, config.home.account, config.trail.name
    );
    let start = edgetrail_proto::record::format_time(crate::commands::state::now_ns());
    println!("  source {dir}/env.sh");
    println!("  aws cloudtrail lookup-events --max-results 5");
    println!(
        "  curl --unix-socket \"$EDGETRAIL_SOCKET\" http://localhost/v1/events -H 'content-type: application/json' \\\n       \
         -d '{{\"eventSource\":\"demo.example\",\"eventName\":\"TryOut\"}}'"
    );
    println!("  aws cloudtrail validate-logs --trail-arn {arn} --start-time {start} --verbose");
    println!(
        "  edgetrail-verify trail --dir {} --keys https://127.0.0.1:{}/v1/keys --ca {dir}/collector/pki/ca.pem",
        layout.trail().display(),
        config.api.listen.port()
    );
    println!("\nCtrl-C stops both.");
}

/// Each source, whether it is on, and what it reads or why it is off: as the running agent itself says.
async fn sources(layout: &Layout, agent: &Path) -> Vec<(String, bool, String)> {
    let mut status = Command::new(agent);
    status.arg("status").arg("--config").arg(layout.agent_config()).args(["-o", "json"]);
    status.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(Ok(output)) = tokio::time::timeout(AGENT_TIME_MAX, status.output()).await else { return Vec::new() };
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let source = |source: &Value| {
        let name = source["source"].as_str()?.to_owned();
        let reason = source["reason"].as_str();
        let detail = reason.map_or_else(|| reads(&name, layout), str::to_owned);
        Some((name, reason.is_none(), detail))
    };
    report["sources"].as_array().into_iter().flatten().filter_map(source).collect()
}

fn reads(source: &str, layout: &Layout) -> String {
    match source {
        "audit" => "logins, sudo, administration: the kernel's audit records".to_owned(),
        "journal" => "logins, sudo, units, users: the system's journal".to_owned(),
        "api" => format!("events posted to {}", layout.socket().display()),
        _ => String::new(),
    }
}
