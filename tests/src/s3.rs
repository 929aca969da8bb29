//! moto, an S3-compatible server, as `tests/setup` installs it, behind a door on a port of its own: closed, then open.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::aws::Client;
use crate::port::free_port;
use crate::process::{Process, workspace};
use crate::wait;

#[derive(Debug)]
pub struct S3 {
    /// Where the door is, once it is open.
    port: u16,
    server: u16,
    _process: Process,
}

impl S3 {
    /// Running, with this bucket, its log in `dir`. Nobody gets to it yet: connections to its endpoint are refused.
    pub fn behind_a_closed_door(dir: &Path, bucket: &str) -> Self {
        let (port, server) = (free_port(), free_port());
        let mut command = Command::new(workspace().join(".venv/bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &server.to_string()]);
        let process = Process::start("moto", &mut command, &dir.join("moto.log"));
        wait::until("moto to listen", Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", server)).ok());
        let client = Client {
            endpoint: format!("http://127.0.0.1:{server}"),
            s3_endpoint: None,
            region: "us-east-1".to_owned(),
            access_key: "test".to_owned(),
            secret: "test".to_owned(),
            ca_bundle: None,
        };
        client.json(&["s3api", "create-bucket", "--bucket", bucket]);
        Self { port, server, _process: process }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on whoever connects reaches the server. Stays open until the test's process ends.
    pub fn open(&self) {
        let door = TcpListener::bind(("127.0.0.1", self.port)).expect("the port is still free");
        let server = self.server;
        thread::spawn(move || {
            for client in door.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                thread::spawn(move || pass(from, to));
                thread::spawn(move || pass(server, client));
            }
        });
    }
}

/// Bytes one way until their end.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let mut passing = || -> io::Result<()> {
        loop {
            match from.read(&mut buffer)? {
                0 => return to.shutdown(Shutdown::Write),
                length => to.write_all(&buffer[..length])?,
            }
        }
    };
    // A side that has gone away ends the connection, as it would without a door.
    drop(passing());
}
