//! A collector and its agents, as an operator would set them up: configuration files, a token and a join per agent.
//!
//! Everything lies in one temporary directory and listens on loopback. Log files come every second and digests every few,
//! so that a test need not wait an hour; nothing else differs from a real one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::aws::Client;
use crate::delivered;
use crate::port::free_port;
use crate::process::{Process, binary, succeed, text, workspace};
use crate::s3::S3;
use crate::wait;

pub const HOME: Scope = Scope { account: "111122223333", region: "dc-local-1" };
const BUCKET: &str = "edgetrail";
/// Seconds. Long enough that a digest has log files, short enough that five of them take half a minute.
const DIGEST_INTERVAL_S: u64 = 6;

/// Read by debug builds: where to be killed.
const CRASH_POINT: &str = "EDGETRAIL_CRASH_POINT";

/// What an agent is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub account: &'static str,
    pub region: &'static str,
}

/// Where the trail is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    Directory,
    /// moto, an S3-compatible server.
    S3,
    /// The same, out of reach before [`Deployment::open_s3`].
    S3Later,
}

/// Where the programs run.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the collector listens on.
    pub address: String,
    /// The network namespace of the agents; none for this one.
    pub agents_in: Option<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { address: "127.0.0.1".to_owned(), agents_in: None }
    }
}

/// What differs from the simplest deployment.
struct Setup<'a> {
    sink: Sink,
    /// Drop-ins of the agents' and the collector's configuration: TOML.
    agents: &'a str,
    collector: &'a str,
    layout: Layout,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { sink: Sink::Directory, agents: "", collector: "", layout: Layout::default() }
    }
}

#[derive(Debug)]
pub struct Deployment {
    collector: Option<Process>,
    agents: Vec<Agent>,
    s3: Option<S3>,
    access_key: String,
    secret: String,
    layout: Layout,
    ingest_port: u16,
    api_port: u16,
    /// Last: the processes end before their files go.
    dir: TempDir,
}

#[derive(Debug)]
struct Agent {
    dir: PathBuf,
    socket: PathBuf,
    process: Option<Process>,
}

impl Deployment {
    pub fn with_one_agent() -> Self {
        Self::new(&[HOME], Sink::Directory)
    }

    /// One agent with a drop-in of its configuration: TOML. Without one it captures posted events alone.
    pub fn with_settings(settings: &str) -> Self {
        Self::set_up(&[HOME], Setup { agents: settings, ..Setup::default() })
    }

    pub fn new(scopes: &[Scope], sink: Sink) -> Self {
        Self::set_up(scopes, Setup { sink, ..Setup::default() })
    }

    /// One agent, with drop-ins of its and the collector's configuration.
    pub fn with_both_settings(settings: &str, collector_settings: &str) -> Self {
        Self::set_up(&[HOME], Setup { agents: settings, collector: collector_settings, ..Setup::default() })
    }

    /// With a drop-in of the collector's configuration: TOML.
    pub fn with_collector_settings(scopes: &[Scope], settings: &str) -> Self {
        Self::set_up(scopes, Setup { collector: settings, ..Setup::default() })
    }

    /// One agent, with a network between it and the collector.
    pub fn laid_out(layout: Layout) -> Self {
        Self::set_up(&[HOME], Setup { layout, ..Setup::default() })
    }

    fn set_up(scopes: &[Scope], setup: Setup<'_>) -> Self {
        let Setup { sink, agents: settings, collector: collector_settings, layout } = setup;
        let dir = tempfile::Builder::new().prefix("edgetrail-").tempdir().expect("a temporary directory can be made");
        let s3 = (sink != Sink::Directory).then(|| S3::behind_a_closed_door(dir.path(), BUCKET));
        if sink == Sink::S3 {
            s3.iter().for_each(S3::open);
        }
        let (ingest_port, api_port) = (free_port(), free_port());
        let sink = match &s3 {
            None => format!("kind = \"directory\"\npath = \"{}\"\n", dir.path().join("trail").display()),
            Some(s3) => format!(
                "kind = \"s3\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key_id = \"test\"\nsecret_access_key = \"test\"\n",
                s3.endpoint()
            ),
        };
        let address = &layout.address;
        let config = format!(
            "[collector]\naccount = \"{}\"\nregion = \"{}\"\nstate_dir = \"{}\"\n\
             [ingest]\nlisten = \"{address}:{ingest_port}\"\nnames = [\"{address}\"]\n\
             [api]\nlisten = \"{address}:{api_port}\"\nnames = [\"{address}\"]\n\
             [trail]\nbucket = \"{BUCKET}\"\nlog_interval = \"1s\"\ndigest_interval = \"{DIGEST_INTERVAL_S}s\"\naccelerated = true\n\
             [trail.sink]\n{sink}",
            HOME.account,
            HOME.region,
            dir.path().join("collector").display(),
        );
        std::fs::write(dir.path().join("collector.toml"), config).expect("the configuration can be written");
        std::fs::create_dir_all(dir.path().join("collector.d")).expect("a directory can be made");
        std::fs::write(dir.path().join("collector.d/settings.toml"), collector_settings)
            .expect("the configuration can be written");
        let (access_key, secret) = (String::new(), String::new());
        let mut deployment =
            Self { collector: None, agents: Vec::new(), s3, access_key, secret, layout, ingest_port, api_port, dir };
        deployment.start_collector();
        deployment.create_access_key();
        for (number, scope) in scopes.iter().enumerate() {
            deployment.join_agent(number, *scope, settings);
        }
        deployment
    }

    fn create_access_key(&mut self) {
        let output = succeed(self.collector_command().args(["access-key", "create", "--name", "tests", "-o", "json"]));
        let key: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let member = |name: &str| key[name].as_str().unwrap_or_else(|| panic!("no {name} in {key}")).to_owned();
        self.access_key = member("access_key_id");
        self.secret = member("secret_access_key");
    }

    fn join_agent(&mut self, number: usize, scope: Scope, settings: &str) {
        self.prepare_agent(number, settings);
        let agent = &self.agents[number];
        self.enroll(scope, &agent.dir, None);
        self.start_agent(number);
    }

    /// An agent's directories and configuration.
    fn prepare_agent(&mut self, number: usize, settings: &str) {
        let dir = self.dir.path().join(format!("agent-{number}"));
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        // Unix socket paths are short: 108 bytes.
        let socket = self.dir.path().join(format!("{number}.sock"));
        let config = format!(
            "[agent]\nstate_dir = \"{}\"\n[sources.api]\npath = \"{}\"\n[sources.audit]\nenabled = false\n[sources.journal]\nenabled = false\n",
            dir.join("state").display(),
            socket.display(),
        );
        std::fs::write(dir.join("agent.toml"), config).expect("the configuration can be written");
        std::fs::create_dir_all(dir.join("agent.d")).expect("a directory can be made");
        std::fs::write(dir.join("agent.d/settings.toml"), settings).expect("the configuration can be written");
        self.agents.push(Agent { dir, socket, process: None });
    }

    /// One more agent, which joins at this URL: a relay's.
    pub fn join_agent_at(&mut self, scope: Scope, url: &str) -> usize {
        let number = self.agents.len();
        self.prepare_agent(number, "");
        let agent = &self.agents[number];
        self.enroll(scope, &agent.dir, Some(url));
        self.start_agent(number);
        number
    }

    /// Makes a token and joins with it, at home's URL or another.
    fn enroll(&self, scope: Scope, agent_dir: &Path, url: Option<&str>) {
        let mut create = self.collector_command();
        create.args(["token", "create", "--account", scope.account, "--region", scope.region, "-o", "json"]);
        let output = succeed(&mut create);
        let token: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let member = |name: &str| token[name].as_str().unwrap_or_else(|| panic!("no {name} in {token}")).to_owned();
        let mut join = Command::new(binary("edgetrail-agent"));
        join.args([
            "join",
            url.unwrap_or(&member("url")),
            "--token",
            &member("token"),
            "--ca-pin",
            &member("ca_pin"),
            "--config",
        ]);
        succeed(join.arg(agent_dir.join("agent.toml")));
    }

    /// Joins the agent anew, as its rightful operator, and starts it: the first agent of the home account alone.
    pub fn rejoin_agent(&mut self, number: usize) {
        self.rejoin_agent_at(number, None);
    }

    /// The same at a relay's URL.
    pub fn rejoin_agent_at(&mut self, number: usize, url: Option<&str>) {
        self.kill_agent(number);
        self.enroll(HOME, &self.agents[number].dir, url);
        self.start_agent(number);
    }

    /// Copies the state of an agent that does not run to one of another number, which does not run either.
    pub fn clone_agent(&mut self, number: usize) -> usize {
        let original = &self.agents[number];
        assert!(original.process.is_none(), "the agent runs");
        let clone = self.agents.len();
        let (dir, socket) = (self.dir.path().join(format!("agent-{clone}")), self.dir.path().join(format!("{clone}.sock")));
        succeed(Command::new("cp").arg("-a").arg(&original.dir).arg(&dir));
        let config = std::fs::read_to_string(original.dir.join("agent.toml")).expect("the configuration can be read");
        let moved = config
            .replace(&original.dir.display().to_string(), &dir.display().to_string())
            .replace(&original.socket.display().to_string(), &socket.display().to_string());
        std::fs::write(dir.join("agent.toml"), moved).expect("the configuration can be written");
        self.agents.push(Agent { dir, socket, process: None });
        clone
    }

    /// The collector's program with its configuration; the command is still to be given.
    pub fn collector_command(&self) -> Command {
        let mut command = Command::new(binary("edgetrail-collector"));
        command.arg("--config").arg(self.dir.path().join("collector.toml"));
        command
    }

    /// An agent's program with its configuration; the command is still to be given.
    pub fn agent_command(&self, agent: usize) -> Command {
        let mut command = Command::new(binary("edgetrail-agent"));
        command.arg("--config").arg(self.agents[agent].dir.join("agent.toml"));
        command
    }

    /// What `status` of an agent says.
    pub fn status(&self, agent: usize) -> Value {
        let output = succeed(self.agent_command(agent).args(["status", "-o", "json"]));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    /// What an agent has logged.
    pub fn agent_printed(&self, agent: usize) -> String {
        self.agents[agent].process.as_ref().map(Process::printed).unwrap_or_default()
    }

    /// What the collector has logged.
    pub fn collector_printed(&self) -> String {
        self.collector.as_ref().map(Process::printed).unwrap_or_default()
    }

    fn collector_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("collector.log")).unwrap_or_default()
    }

    /// Lets everybody reach the S3 server, with the trail's bucket in it.
    pub fn open_s3(&self) {
        self.s3.as_ref().expect("the trail goes to S3").open();
    }

    pub fn start_collector(&mut self) {
        let before = self.collector_log().lines().count();
        let process = self.collector.insert(Self::spawn_collector(self.dir.path(), None));
        let place = (self.layout.address.as_str(), self.api_port);
        wait::until("the collector to listen", Duration::from_secs(60), || {
            assert!(process.running(), "the collector ended: {}", process.printed());
            // Not any listener there, but this one.
            let says_so = process.printed().lines().skip(before).any(|line| line.contains("collector started"));
            says_so.then(|| std::net::TcpStream::connect(place).ok()).flatten()
        });
    }

    pub fn start_agent(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        let process = agent.process.insert(Self::spawn_agent(&self.layout, &agent.dir, None));
        let socket = agent.socket.clone();
        wait::until("the agent's socket", Duration::from_secs(60), || {
            assert!(process.running(), "the agent ended: {}", process.printed());
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// Gives the agent's API socket another place, with a drop-in that says so, and starts it again.
    pub fn move_socket(&mut self, number: usize, socket: &Path, settings: &str) {
        let config = self.agents[number].dir.join("agent.toml");
        let text = std::fs::read_to_string(&config).expect("the configuration can be read");
        let former = format!("[sources.api]\npath = \"{}\"\n", self.agents[number].socket.display());
        assert!(text.contains(&former), "{text}");
        std::fs::write(&config, text.replace(&former, settings)).expect("the configuration can be written");
        self.kill_agent(number);
        socket.clone_into(&mut self.agents[number].socket);
        self.start_agent(number);
    }

    /// Makes the agent reach the collector by another port, of a proxy, and starts it again.
    pub fn redirect_agent(&mut self, number: usize, port: u16) {
        let drop_in = format!("[uplink]\ncollectors = [\"{}:{port}\"]\n", self.layout.address);
        std::fs::write(self.agents[number].dir.join("agent.d/redirect.toml"), drop_in).expect("the configuration can be written");
        self.kill_agent(number);
        self.start_agent(number);
    }

    /// Starts the collector to be killed at a crash point (`NAME:N`), and waits until it was. Its own stream, which
    /// rests most of the time, is given something to record.
    pub fn crash_collector(&mut self, point: &str) {
        assert!(self.collector.is_none(), "the collector runs");
        let process = Self::spawn_collector(self.dir.path(), Some(point));
        let provoke = || drop(self.aws().run(&["cloudtrail", "describe-trails"]));
        let rests = point.starts_with("collector/internal") || point.starts_with("key-file");
        await_crash(process, point, || {
            if rests {
                provoke()
            }
        });
    }

    /// The same for an agent.
    pub fn crash_agent(&mut self, number: usize, point: &str) {
        let agent = &self.agents[number];
        assert!(agent.process.is_none(), "the agent runs");
        await_crash(Self::spawn_agent(&self.layout, &agent.dir, Some(point)), point, || {});
    }

    fn spawn_collector(dir: &Path, crash_point: Option<&str>) -> Process {
        let mut command = Command::new(binary("edgetrail-collector"));
        command.arg("serve").arg("--config").arg(dir.join("collector.toml"));
        command.envs(crash_point.map(|point| (CRASH_POINT, point)));
        Process::start("collector", &mut command, &dir.join("collector.log"))
    }

    fn spawn_agent(layout: &Layout, dir: &Path, crash_point: Option<&str>) -> Process {
        let program = binary("edgetrail-agent");
        let mut command = match &layout.agents_in {
            None => Command::new(program),
            Some(namespace) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", namespace]).arg(program);
                inside
            }
        };
        command.arg("run").arg("--config").arg(dir.join("agent.toml"));
        command.envs(crash_point.map(|point| (CRASH_POINT, point)));
        Process::start("agent", &mut command, &dir.join("agent.log"))
    }

    /// Whether it has not ended by itself.
    pub fn collector_runs(&mut self) -> bool {
        self.collector.as_mut().expect("the collector was started").running()
    }

    pub fn agent_runs(&mut self, number: usize) -> bool {
        self.agents[number].process.as_mut().expect("the agent was started").running()
    }

    pub fn kill_collector(&mut self) {
        self.collector.take().expect("the collector runs").kill();
    }

    pub fn kill_agent(&mut self, number: usize) {
        self.agents[number].process.take().expect("the agent runs").kill();
    }

    /// An orderly stop of one agent.
    pub fn stop_agent(&mut self, number: usize) {
        let process = self.agents[number].process.take().expect("the agent runs");
        assert!(process.stop().success(), "the agent did not stop in order");
    }

    /// An orderly stop of all: agents first.
    pub fn stop(&mut self) {
        for agent in &mut self.agents {
            let process = agent.process.take().expect("the agent runs");
            assert!(process.stop().success(), "the agent did not stop in order");
        }
        let collector = self.collector.take().expect("the collector runs");
        assert!(collector.stop().success(), "the collector did not stop in order");
    }

    pub fn start(&mut self) {
        self.start_collector();
        (0..self.agents.len()).for_each(|number| self.start_agent(number));
    }

    /// From here on nothing is delivered any more.
    pub fn stop_agents_and_logging(&mut self) {
        for agent in &mut self.agents {
            if let Some(process) = agent.process.take() {
                assert!(process.stop().success(), "the agent did not stop in order");
            }
        }
        self.aws().json(&["cloudtrail", "stop-logging", "--name", "default"]);
        let deadline = format!("the final digest of {}", self.trail().display());
        wait::until(&deadline, Duration::from_secs(60), || {
            let stop = delivered::records(&self.trail()).into_iter().find(|(_, record)| record["eventName"] == "StopLogging");
            stop.filter(|(path, _)| self.digested(path))
        });
    }

    pub fn aws(&self) -> Client {
        self.aws_in(HOME.region)
    }

    pub fn aws_in(&self, region: &str) -> Client {
        Client {
            endpoint: format!("https://{}:{}", self.layout.address, self.api_port),
            s3_endpoint: self.s3.as_ref().map(S3::endpoint),
            region: region.to_owned(),
            access_key: self.access_key.clone(),
            secret: self.secret.clone(),
            ca_bundle: Some(self.ca()),
        }
    }

    /// `aws cloudtrail validate-logs` of one account and region, from the start.
    pub fn validate_logs(&self, account: &str, region: &str) -> Output {
        let arn = format!("arn:aws:cloudtrail:{}:{}:trail/default", HOME.region, HOME.account);
        let start = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        let start = start.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let arguments = ["cloudtrail", "validate-logs", "--trail-arn", &arn, "--start-time", &start, "--account-id", account];
        // The source region is the option's alone: the CLI does not take it from the environment.
        self.aws_in(region).run(&[&arguments[..], &["--region", region, "--verbose"]].concat())
    }

    pub fn validate(&self) -> Output {
        self.validate_logs(HOME.account, HOME.region)
    }

    /// `edgetrail-verify trail` of the whole trail, with the collector's own keys and CA.
    pub fn verify(&self, arguments: &[&str]) -> Output {
        self.verify_by(&["trail"], arguments)
    }

    /// Another command of `edgetrail-verify`, over the same trail.
    pub fn verify_by(&self, command_line: &[&str], arguments: &[&str]) -> Output {
        self.verify_with(&self.ca(), command_line, arguments)
    }

    /// The same by these roots.
    pub fn verify_with(&self, ca: &Path, command_line: &[&str], arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("edgetrail-verify"));
        command.args(command_line);
        match &self.s3 {
            None => command.arg("--dir").arg(self.trail()),
            Some(s3) => command
                .args(["--s3", &format!("s3://{BUCKET}")])
                .env("AWS_ENDPOINT_URL_S3", s3.endpoint())
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_REGION", "us-east-1"),
        };
        command
            .args(["--keys", &format!("https://{}:{}/v1/keys", self.layout.address, self.api_port), "--ca"])
            .arg(ca)
            .args(arguments);
        command.output().expect("edgetrail-verify starts")
    }

    /// Every delivered proof file against the second implementation.
    pub fn check_proofs_by_second_implementation(&self) {
        let proofs = delivered::objects(&self.trail(), "/CloudTrail-Proof/");
        assert!(!proofs.is_empty());
        for proof in proofs {
            succeed(Command::new("python3").arg(workspace().join("tests/chain/chain.py")).arg("check-proof").arg(proof));
        }
    }

    /// Waits until every account and region that has digests has `count` of them, and at least the home has.
    pub fn wait_for_digests(&self, count: usize) {
        wait::until(&format!("{count} digests"), Duration::from_secs(120), || {
            let mut counts = std::collections::BTreeMap::new();
            for key in self.digest_keys() {
                let chain: Vec<String> =
                    key.split('/').skip_while(|part| *part != "AWSLogs").take(4).map(str::to_owned).collect();
                *counts.entry(chain).or_insert(0) += 1;
            }
            (counts.len() >= self.agents.len() && counts.values().all(|found| *found >= count)).then_some(())
        });
    }

    fn digest_keys(&self) -> Vec<String> {
        if self.s3.is_none() {
            let all = delivered::objects(&self.trail(), "/CloudTrail-Digest/");
            return all.iter().map(|path| path.display().to_string()).collect();
        }
        let listed = self.aws_in("us-east-1").json(&["s3api", "list-objects-v2", "--bucket", BUCKET]);
        let keys = listed["Contents"].as_array().cloned().unwrap_or_default();
        keys.iter()
            .filter_map(|object| object["Key"].as_str())
            .filter(|key| key.contains("/CloudTrail-Digest/"))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a digest lists the log file.
    pub fn wait_until_digested(&self, log: &Path) {
        wait::until("the log file's digest", Duration::from_secs(60), || self.digested(log).then_some(()));
    }

    fn digested(&self, log: &Path) -> bool {
        let log = log.to_string_lossy();
        let lists = |(_, digest): &(PathBuf, Value)| {
            let files = digest["logFiles"].as_array().cloned().unwrap_or_default();
            files.iter().any(|file| file["s3Object"].as_str().is_some_and(|key| log.ends_with(key)))
        };
        delivered::digests(&self.trail()).iter().any(lists)
    }

    /// Waits until everything that lies in log files now is covered by a digest.
    pub fn wait_until_all_digested(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970").as_secs();
        let due = jiff::Timestamp::from_second(i64::try_from(now + 1).expect("this century")).expect("a time");
        let due = due.strftime("%Y%m%dT%H%M%SZ").to_string();
        // The key of a digest ends in its end time: one that ends after now covers what was delivered until now.
        wait::until("digests of everything so far", Duration::from_secs(120), || {
            let late = |key: &String| key.rsplit('_').next().is_some_and(|stamp| stamp >= due.as_str());
            (self.digest_keys().iter().filter(|key| late(key)).count() >= self.agents.len()).then_some(())
        });
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory trail's root: its first folder is the bucket.
    pub fn trail(&self) -> PathBuf {
        self.dir.path().join("trail")
    }

    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    pub fn account(&self) -> &'static str {
        HOME.account
    }

    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    pub fn collector_id(&self) -> u32 {
        self.collector.as_ref().expect("the collector runs").id()
    }

    pub fn agent_id(&self, agent: usize) -> u32 {
        self.agents[agent].process.as_ref().expect("the agent runs").id()
    }

    pub fn ingest_port(&self) -> u16 {
        self.ingest_port
    }

    pub fn collector_state(&self) -> PathBuf {
        self.dir.path().join("collector")
    }

    pub fn agent_state(&self, agent: usize) -> PathBuf {
        self.agents[agent].dir.join("state")
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("collector/pki/ca.pem")
    }

    pub fn socket(&self) -> &Path {
        self.socket_of(0)
    }

    pub fn socket_of(&self, agent: usize) -> &Path {
        &self.agents[agent].socket
    }
}

/// A crash point that is not reached is no test.
fn await_crash(mut process: Process, point: &str, provoke: impl Fn()) {
    let status = wait::until(&format!("the end at {point}"), Duration::from_secs(60), || {
        provoke();
        process.ended()
    });
    assert!(was_killed(status), "{point}: {status}: {}", process.printed());
}

fn was_killed(status: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}
