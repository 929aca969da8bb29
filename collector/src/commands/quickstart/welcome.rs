//! What a quickstart prints once both run: what is captured, where the trail lies, what to type next.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::AGENT_TIME_MAX;
use super::kernel_audit::KernelAudit;
use super::layout::Layout;
use crate::config::Config;

const VERIFIER: &str = "edgetrail-verify";

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
    for command in commands(&dir.to_string(), &verifier()) {
        println!("  {command}");
    }
    println!("\nCtrl-C stops both.");
}

/// What the README shows, for this directory.
fn commands(dir: &str, verifier: &str) -> [String; 6] {
    [
        format!("source {dir}/env.sh"),
        "curl --unix-socket \"$EDGETRAIL_SOCKET\" -d '{\"eventSource\":\"shop.example\",\"eventName\":\"RefundOrder\"}' http://localhost/v1/events"
            .to_owned(),
        "aws cloudtrail lookup-events --max-items 5".to_owned(),
        format!("find {dir}/trail -name '*.json.gz'"),
        "aws cloudtrail validate-logs --trail-arn \"$EDGETRAIL_TRAIL_ARN\" --start-time \"$(date -u -d '1 hour ago' +%FT%TZ)\""
            .to_owned(),
        format!("{verifier} trail --dir {dir}/trail --keys \"$AWS_ENDPOINT_URL/v1/keys\" --ca \"$AWS_CA_BUNDLE\""),
    ]
}

/// The auditor's tool beside this program, else wherever PATH finds it.
fn verifier() -> String {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(VERIFIER)));
    beside.filter(|program| program.exists()).map_or_else(|| VERIFIER.to_owned(), |program| program.display().to_string())
}

/// Each source, whether it is on, and what it reads or why it is off: as the running agent itself says.
async fn sources(layout: &Layout, agent: &Path) -> Vec<(String, bool, String)> {
    let mut status = Command::new(agent);
    status.arg("status").arg("--config").arg(layout.agent_config()).args(["-o", "json"]);
    status.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(Ok(output)) = tokio::time::timeout(AGENT_TIME_MAX, status.output()).await else { return Vec::new() };
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    listed(&report, layout)
}

/// A source that is on may have a reason too: what of it does not work.
fn listed(report: &Value, layout: &Layout) -> Vec<(String, bool, String)> {
    let source = |source: &Value| {
        let name = source["source"].as_str()?.to_owned();
        let is_on = source["on"] == true;
        let detail = match source["reason"].as_str() {
            Some(trouble) if is_on => format!("but {trouble}"),
            Some(reason) => reason.to_owned(),
            None if is_on => reads(&name, layout),
            None => String::new(),
        };
        Some((name, is_on, detail))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A proxy that takes no requests, and says why, is still on.
    #[test]
    fn a_source_is_on_where_the_agent_says_so_whatever_else_it_says_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("quickstart")).unwrap();
        let report = json!({"sources": [
            {"source": "journal", "on": true, "reason": null},
            {"source": "proxy", "on": true, "reason": "orders: takes no requests"},
            {"source": "audit", "on": false, "reason": "needs CAP_AUDIT_READ"},
            {"on": true},
        ]});
        let expected = [
            ("journal", true, "logins, sudo, units, users: the system's journal"),
            ("proxy", true, "but orders: takes no requests"),
            ("audit", false, "needs CAP_AUDIT_READ"),
        ];
        let expected = expected.map(|(name, is_on, detail)| (name.to_owned(), is_on, detail.to_owned()));
        assert_eq!(listed(&report, &layout), expected);
    }

    #[test]
    fn the_readme_shows_the_same_commands() {
        let readme = include_str!("../../../../README.md");
        for command in commands(".edgetrail", "target/debug/edgetrail-verify") {
            assert!(readme.contains(&command), "the README lacks: {command}");
        }
    }
}
