//! A further agent under the real program, whose configuration the test writes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{Process, binary};
use edgetrail_tests::wait;

use crate::rogue::{block_on, join_with, token};

pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Option<Process>,
}

impl Host {
    /// Joins, and starts with ingest at this port.
    pub(crate) fn join(deployment: &Deployment, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        block_on(join_with(&token(deployment, &[]), &directory.path().join("state"), "host")).unwrap();
        let mut host = Self { directory, process: None };
        host.start(port);
        host
    }

    pub(crate) fn start(&mut self, port: u16) {
        let dir = self.directory.path();
        let config = format!(
            "[agent]\nstate_dir = \"{}\"\nhost = \"host\"\n[sources.api]\npath = \"{}\"\n[sources.audit]\nenabled = false\n\
             [sources.journal]\nenabled = false\n[uplink]\ncollectors = [\"127.0.0.1:{port}\"]\n",
            dir.join("state").display(),
            self.socket().display(),
        );
        std::fs::write(dir.join("agent.toml"), config).unwrap();
        let mut run = Command::new(binary("edgetrail-agent"));
        run.arg("run").arg("--config").arg(dir.join("agent.toml"));
        self.process = Some(Process::start("agent", &mut run, &dir.join("agent.log")));
        let socket = self.socket();
        wait::until("the agent's socket", Duration::from_secs(30), || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("the agent runs").id()
    }

    pub(crate) fn printed(&self) -> String {
        self.process.as_ref().map(Process::printed).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }
}
