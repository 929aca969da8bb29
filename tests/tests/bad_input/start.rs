//! What keeps a program from starting: it says what and what to do, and ends with the documented code.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::port::free_port;
use edgetrail_tests::process::{binary, text};

/// Exit codes. Source: `--help` of each.
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);

fn run(program: &str, arguments: &[&str], config: &Path) -> Output {
    Command::new(binary(program)).args(arguments).arg("--config").arg(config).output().unwrap()
}

/// A program with the rights of a user that is not root, though it may be: no capability overrides a permission.
fn unprivileged(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(binary(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary(program));
    command
}

fn says(output: &Output, code: Option<i32>, texts: &[&str]) {
    let printed = text(output);
    assert_eq!(output.status.code(), code, "{printed}");
    for text in texts {
        assert!(printed.contains(text), "`{text}` is not in: {printed}");
    }
}

fn collector_config(dir: &Path, ingest_port: u16) -> String {
    let (state, trail, api_port) = (dir.join("state"), dir.join("trail"), free_port());
    format!(
        "[collector]\naccount = \"111122223333\"\nregion = \"dc-local-1\"\nstate_dir = \"{}\"\n\
         [ingest]\nlisten = \"127.0.0.1:{ingest_port}\"\n[api]\nlisten = \"127.0.0.1:{api_port}\"\n\
         [trail]\nbucket = \"bucket\"\n[trail.sink]\nkind = \"directory\"\npath = \"{}\"\n",
        state.display(),
        trail.display()
    )
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.toml");
    fs::write(&agent, "[agent]\nstate_dri = \"x\"\n[buffre]\nx = 1\n[sources.audit]\nenabled = 1\n").unwrap();
    let all =
        ["agent.toml:2", "`state_dri`; did you mean `state_dir`?", "buffre", "did you mean `buffer`?", "sources.audit.enabled"];
    says(&run("edgetrail-agent", &["run"], &agent), FAILED, &all);
    says(&run("edgetrail-agent", &["check"], &agent), FAILED, &all);

    let collector = dir.path().join("collector.toml");
    let config = collector_config(dir.path(), free_port());
    fs::write(&collector, config.replace("account", "acount").replace("[trail.sink]", "[trail.snk]")).unwrap();
    let all = ["`acount`; did you mean `account`?", "collector.account: missing", "12 digits", "did you mean `sink`?"];
    says(&run("edgetrail-collector", &["serve"], &collector), FAILED, &all);
    says(&run("edgetrail-collector", &["check"], &collector), FAILED, &all);

    fs::write(&agent, "[agent\n").unwrap();
    says(&run("edgetrail-agent", &["run"], &agent), FAILED, &["agent.toml:1"]);
    says(&run("edgetrail-agent", &["run"], &dir.path().join("absent.toml")), FAILED, &["absent.toml", "check its path"]);
    says(&run("edgetrail-agent", &["rum"], &agent), USAGE, &["'run'"]);
    says(&run("edgetrail-collector", &["serve", "--prot"], &collector), USAGE, &["--prot", "--help"]);
}

#[test]
fn a_busy_port_is_named_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let config = dir.path().join("collector.toml");
    fs::write(&config, collector_config(dir.path(), port)).unwrap();
    let all = [&*format!("127.0.0.1:{port}"), "in use", "set another `ingest.listen`"];
    says(&run("edgetrail-collector", &["serve"], &config), FAILED, &all);
}

#[test]
fn a_directory_that_may_not_be_written_is_named_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (agent, collector) = (dir.path().join("agent.toml"), dir.path().join("collector.toml"));
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    fs::write(&agent, format!("[agent]\nstate_dir = \"{}\"\n", locked.join("agent").display())).unwrap();
    fs::write(&collector, collector_config(&locked, free_port())).unwrap();

    let output = unprivileged("edgetrail-collector").args(["serve", "--config"]).arg(&collector).output().unwrap();
    says(&output, FAILED, &["locked/state", "collector.state_dir", "Permission denied"]);
    let pin = format!("sha256:{}", "00".repeat(32));
    let join = ["join", "https://127.0.0.1:1", "--token", "x", "--ca-pin", &pin, "--config"];
    let output = unprivileged("edgetrail-agent").args(join).arg(&agent).output().unwrap();
    says(&output, FAILED, &["locked/agent", "set agent.state_dir", "Permission denied"]);
}

#[test]
fn a_second_agent_or_collector_on_one_state_is_refused() {
    let deployment = Deployment::with_one_agent();
    let second = deployment.agent_command(0).arg("run").output().unwrap();
    says(&second, FAILED, &["another", "state"]);
    let config = deployment.dir().join("second.toml");
    let first = fs::read_to_string(deployment.dir().join("collector.toml")).unwrap();
    let moved = first.replace(&format!(":{}", deployment.ingest_port()), &format!(":{}", free_port()));
    let api = moved.lines().filter(|line| line.starts_with("listen")).nth(1).unwrap();
    fs::write(&config, moved.replace(api, &format!("listen = \"127.0.0.1:{}\"", free_port()))).unwrap();
    let second = run("edgetrail-collector", &["serve"], &config);
    says(&second, FAILED, &["another collector runs", "collector.state_dir"]);
}
