//! Somebody who posts an event every little while, and knows afterwards what must have been delivered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::wait;
use serde_json::json;

const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Poster {
    stop: Arc<AtomicBool>,
    posting: JoinHandle<u64>,
    name: String,
}

impl Poster {
    pub(crate) fn start(socket: &Path, name: &str) -> Self {
        let (stop, socket, name) = (Arc::new(AtomicBool::new(false)), PathBuf::from(socket), name.to_owned());
        let (stopped, event_name) = (Arc::clone(&stop), name.clone());
        let post = move |n: u64| {
            let event = json!({ "eventSource": "tests.example", "eventName": event_name, "requestParameters": { "n": n } });
            post_one(&socket, &event)
        };
        // One at least, however soon it is stopped.
        post(0);
        let posting = std::thread::spawn(move || {
            let mut count = 1;
            while !stopped.load(Ordering::Relaxed) {
                post(count);
                count += 1;
                std::thread::park_timeout(PAUSE);
            }
            count
        });
        Self { stop, posting, name }
    }

    /// Stops, and waits until every event is in the log files, once.
    pub(crate) fn all_delivered(self, trail: &Path) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.posting.join().expect("posting went well");
        wait::until(&format!("{count} delivered events {}", self.name), Duration::from_secs(60), || {
            let numbers = numbers(trail, &self.name);
            assert!(numbers.values().all(|times| *times == 1), "delivered twice: {numbers:?}");
            (numbers.len() as u64 == count).then_some(())
        });
        count
    }
}

/// How often each number was delivered.
fn numbers(trail: &Path, name: &str) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for (_, record) in delivered::records(trail).into_iter().filter(|(_, record)| record["eventName"] == name) {
        *numbers.entry(record["requestParameters"]["n"].as_u64().expect("a number")).or_default() += 1;
    }
    numbers
}
