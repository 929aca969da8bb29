//! Two collectors in order of preference: the agent uses the second while the first is away, and goes back. Here both are
//! ways to one collector, so that what went by either is known by the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::port::free_port;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::wait;
use serde_json::{Value, json};

const EVENTS: usize = 30;

/// Lets whoever connects to `near` reach `far`, until the test's process ends.
fn open_way(near: u16, far: u16) {
    let listener = TcpListener::bind(("127.0.0.1", near)).unwrap();
    std::thread::spawn(move || {
        for agent in listener.incoming().flatten() {
            let Ok(collector) = TcpStream::connect(("127.0.0.1", far)) else { continue };
            let (back, forth) = (collector.try_clone().unwrap(), agent.try_clone().unwrap());
            std::thread::spawn(move || pass(agent, collector));
            std::thread::spawn(move || pass(back, forth));
        }
    });
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

#[test]
fn an_agent_uses_its_second_collector_while_the_first_is_away_and_returns() {
    let mut deployment = Deployment::with_one_agent();
    let (near, far) = (free_port(), deployment.ingest_port());
    let (preferred, second) = (format!("127.0.0.1:{near}"), format!("127.0.0.1:{far}"));
    let drop_in = format!("[uplink]\ncollectors = [\"{preferred}\", \"{second}\"]\nreturn_after = \"2s\"\n");
    std::fs::write(deployment.dir().join("agent-0/agent.d/uplink.toml"), drop_in).unwrap();
    deployment.kill_agent(0);
    deployment.start_agent(0);
    let connected = |to: &str| -> Value {
        wait::until(&format!("a session with {to}"), Duration::from_secs(60), || {
            let uplink = deployment.status(0)["uplink"].clone();
            (uplink["connected"] == to).then_some(uplink)
        })
    };
    let post = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let event = json!({"eventSource": "shop.example", "eventName": "CreateOrder", "id": format!("order-{number}"),
                               "requestParameters": {"generated": format!("order-{number}")}});
            post_one(deployment.socket(), &event);
        }
    };

    let uplink = connected(&second);
    assert_eq!(uplink["passed_over"][0]["collector"], preferred, "{uplink}");
    assert!(uplink["passed_over"][0]["error"].is_string() && uplink["since"].is_u64(), "{uplink}");
    post(0..EVENTS / 2);

    open_way(near, far);
    post(EVENTS / 2..EVENTS);
    let uplink = connected(&preferred);
    assert_eq!(uplink["passed_over"], json!([]), "{uplink}");

    let mut ids = Vec::new();
    wait::until("every event in log files", Duration::from_secs(60), || {
        let records = delivered::records(&deployment.trail());
        ids = records
            .iter()
            .filter_map(|(_, record)| record["requestParameters"]["generated"].as_str().map(str::to_owned))
            .collect();
        (ids.len() >= EVENTS).then_some(())
    });
    ids.sort();
    let delivered = ids.len();
    ids.dedup();
    assert_eq!((delivered, ids.len()), (EVENTS, EVENTS), "each once");
}
