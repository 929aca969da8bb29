//! A relay as an operator would set it up beside a deployment: a configuration, a token of home's, a join.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::port::free_port;
use edgetrail_tests::process::{Process, binary, succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

/// Read by debug builds: where to be killed.
const CRASH_POINT: &str = "EDGETRAIL_CRASH_POINT";

pub(crate) struct Station {
    pub(crate) name: &'static str,
    dir: PathBuf,
    pub(crate) ingest: u16,
    api: u16,
    process: Option<Process>,
}

impl Station {
    /// Joins home and starts.
    pub(crate) fn set_up(home: &Deployment, name: &'static str) -> Self {
        let dir = home.dir().join(format!("relay-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        let (ingest, api) = (free_port(), free_port());
        let config = format!(
            "[collector]\naccount = \"{}\"\nregion = \"dc-{name}-1\"\nstate_dir = \"{}\"\n\
             [relay]\nhome = \"https://127.0.0.1:{}\"\n\
             [ingest]\nlisten = \"127.0.0.1:{ingest}\"\nnames = [\"127.0.0.1\"]\n\
             [api]\nlisten = \"127.0.0.1:{api}\"\nnames = [\"127.0.0.1\"]\n",
            home.account(),
            dir.join("state").display(),
            home.api_port(),
        );
        std::fs::write(dir.join("collector.toml"), config).unwrap();
        let made = succeed(home.collector_command().args(["token", "create", "--relay", name, "-o", "json"]));
        let token: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&made)));
        let member = |member: &str| token[member].as_str().unwrap().to_owned();
        let mut join = Command::new(binary("edgetrail-collector"));
        join.args(["relay", "join", &member("url"), "--token", &member("token"), "--ca-pin", &member("ca_pin"), "--config"]);
        succeed(join.arg(dir.join("collector.toml")));
        let mut station = Self { name, dir, ingest, api, process: None };
        station.start();
        station
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ingest)
    }

    /// Where agents join.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The relay's program with its configuration; the command is still to be given.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary("edgetrail-collector"));
        command.arg("--config").arg(self.dir.join("collector.toml"));
        command
    }

    fn spawn(&self, crash_point: Option<&str>) -> Process {
        let mut command = Command::new(binary("edgetrail-collector"));
        command.arg("serve").arg("--config").arg(self.dir.join("collector.toml"));
        command.envs(crash_point.map(|point| (CRASH_POINT, point)));
        Process::start("relay", &mut command, &self.dir.join("relay.log"))
    }

    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(self.dir.join("relay.log")).unwrap_or_default()
    }

    pub(crate) fn start(&mut self) {
        let before = self.printed().matches("relay started").count();
        let mut process = self.spawn(None);
        wait::until("the relay to listen", Duration::from_secs(60), || {
            assert!(process.running(), "the relay ended: {}", process.printed());
            (self.printed().matches("relay started").count() > before).then_some(())
        });
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the relay runs").kill();
    }

    /// Starts the relay to be killed at a crash point (`NAME:N`), and waits until it was.
    pub(crate) fn crash(&mut self, point: &str) {
        assert!(self.process.is_none(), "the relay runs");
        let mut process = self.spawn(Some(point));
        let status = wait::until(&format!("the end at {point}"), Duration::from_secs(120), || process.ended());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{point}: {}", process.printed());
    }

    /// Its disk is gone.
    pub(crate) fn lose(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.join("state")).unwrap();
    }
}

/// Sends an agent to these collectors, in order of preference, from its next start on.
pub(crate) fn send(home: &mut Deployment, agent: usize, collectors: &[String]) {
    let listed: Vec<String> = collectors.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let drop_in = format!("[uplink]\ncollectors = [{}]\nreturn_after = \"2s\"\n", listed.join(", "));
    std::fs::write(home.dir().join(format!("agent-{agent}/agent.d/uplink.toml")), drop_in).unwrap();
    home.kill_agent(agent);
    home.start_agent(agent);
}

/// Waits until the agent has a session with this collector.
pub(crate) fn await_session(home: &Deployment, agent: usize, endpoint: &str) {
    wait::until(&format!("a session with {endpoint}"), Duration::from_secs(90), || {
        (home.status(agent)["uplink"]["connected"] == endpoint).then_some(())
    });
}
