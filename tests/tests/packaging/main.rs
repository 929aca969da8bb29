//! What ships beside the binaries: the hardened units.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use edgetrail_tests::process::{text, workspace};

/// Largest exposure that `systemd-analyze security` may find, times ten. The agent needs audit and netlink, the collector
/// nothing. Peers' units lie between 63 and 96.
const EXPOSURE_MAX: [(&str, &str); 2] = [("edgetrail-agent.service", "25"), ("edgetrail-collector.service", "15")];

#[test]
fn units_stay_as_hardened_as_they_are() {
    for (unit, threshold) in EXPOSURE_MAX {
        let mut analyze = Command::new("systemd-analyze");
        analyze
            .args(["security", "--offline=true", &format!("--threshold={threshold}")])
            .arg(workspace().join("systemd").join(unit));
        let output = analyze.output().expect("systemd-analyze is installed: run `make setup`");
        assert!(output.status.success(), "{unit} is more exposed than {threshold}/10:\n{}", text(&output));
    }
}

#[test]
fn units_tell_systemd_when_they_are_ready_and_alive_and_where_their_state_lies() {
    for (unit, _) in EXPOSURE_MAX {
        let content = std::fs::read_to_string(workspace().join("systemd").join(unit)).unwrap();
        let name = unit.trim_end_matches(".service");
        for line in ["Type=notify", "WatchdogSec=30s", "NoNewPrivileges=yes", "Restart=always", &format!("StateDirectory={name}")]
        {
            assert!(content.lines().any(|found| found == line), "{unit} has no line {line}");
        }
    }
    let socket = std::fs::read_to_string(workspace().join("systemd/edgetrail-audit.socket")).unwrap();
    for line in ["ListenNetlink=audit 1", "ReceiveBuffer=16M", "FileDescriptorName=audit"] {
        assert!(socket.lines().any(|found| found == line), "the audit socket has no line {line}");
    }
}
