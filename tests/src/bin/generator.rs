//! The load of the kill tests, a process of its own: posts events to an agent's socket and notes, fsynced, the id of each
//! one that was answered 200. What it noted must be delivered exactly once, whatever was killed meanwhile.
//!
//! Usage: generator SOCKET NOTES PREFIX. Runs until it is told to stop by end-of-file on standard input.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgetrail_tests::posting::Caller;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |name: &str| arguments.next().ok_or_else(|| anyhow::anyhow!("missing argument {name}"));
    let (socket, notes) = (PathBuf::from(next("SOCKET")?), PathBuf::from(next("NOTES")?));
    let prefix = next("PREFIX")?.to_string_lossy().into_owned();
    let mut notes = std::fs::File::options().create(true).append(true).open(notes)?;

    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let listener = std::thread::spawn(move || {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::SeqCst);
    });

    let mut number = 0u64;
    let mut caller = None;
    while !stop.load(Ordering::SeqCst) {
        let Some(connected) = caller.take().or_else(|| Caller::connect(&socket).ok()) else {
            // The agent is down: that is the test. Yield the processor to whoever starts it again.
            std::thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        let mut connected = connected;
        number += 1;
        let id = format!("{prefix}-{number}");
        let event = serde_json::json!({
            "eventSource": "generator.example", "eventName": "PutItem", "id": id,
            "requestParameters": {"generated": id, "amount": number},
        });
        // An unanswered event may or may not be committed; it is not posted again, so it may appear once or not at all.
        if let Ok(answer) = connected.post(event.to_string().as_bytes()) {
            if answer.status == 200 {
                writeln!(notes, "{id}")?;
                notes.sync_data()?;
            }
            caller = Some(connected);
        }
    }
    listener.join().map_err(|_| anyhow::anyhow!("the listener on standard input failed"))?;
    Ok(())
}
