//! Ports for the servers of a test, each given out once.
//!
//! A port that the kernel called free can be taken again before a server listens on it: by another test that runs at the
//! same time, or as the near end of some connection. So ports come from below the kernel's range for connections
//! (`ip_local_port_range`, from 32768), and a locked file marks each for as long as this process lives.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;

/// Not used by anything that is commonly installed, and below the near ends of connections.
const PORTS: std::ops::Range<u16> = 21_000..32_000;

/// Locks held until the process ends, also where it is killed.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of loopback on which nobody listens, and that no other test gets while this process lives.
pub fn free_port() -> u16 {
    let marks = std::env::temp_dir().join("edgetrail-test-ports");
    fs::create_dir_all(&marks).expect("a directory can be made");
    // Where to begin is arbitrary: it only spreads the processes out.
    let first = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).expect("less than the range");
    for port in (PORTS.start + first..PORTS.end).chain(PORTS.start..PORTS.start + first) {
        let mark = File::create(marks.join(port.to_string())).expect("a file can be made");
        if mark.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            TAKEN.lock().expect("nobody panicked here").push(mark);
            return port;
        }
    }
    panic!("no free port between {} and {}", PORTS.start, PORTS.end);
}
