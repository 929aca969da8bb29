//! Two regions, each with a relay: home delivers what both bring, each event once, and the whole verifies.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::{Deployment, HOME, Scope, Sink};
use edgetrail_tests::load::Load;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::text;
use edgetrail_tests::wait;
use serde_json::{Value, json};

use crate::station::{Station, await_session, send};

const TOKYO: Scope = Scope { account: "444455556666", region: "dc-tokyo-1" };

/// Posts events with these numbers, under ids of this prefix.
pub(crate) fn post(socket: &Path, prefix: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let id = format!("{prefix}-{number}");
        let event = json!({"eventSource": "shop.example", "eventName": "CreateOrder", "id": id,
                           "requestParameters": {"generated": id}});
        post_one(socket, &event);
    }
}

/// How often each posted id is delivered.
pub(crate) fn posted(home: &Deployment) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for (_, record) in delivered::records(&home.trail()) {
        if let Some(id) = record["requestParameters"]["generated"].as_str() {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    found
}

#[test]
fn what_two_relays_bring_is_delivered_once_and_verifies() {
    let mut home = Deployment::new(&[HOME, TOKYO], Sink::Directory);
    let (osaka, tokyo) = (Station::set_up(&home, "osaka"), Station::set_up(&home, "tokyo"));
    // Before there were relays, both agents were with home: each stream goes on through its relay.
    post(home.socket_of(0), "before", 0..5);
    send(&mut home, 0, &[osaka.endpoint()]);
    send(&mut home, 1, &[tokyo.endpoint()]);
    await_session(&home, 0, &osaka.endpoint());
    await_session(&home, 1, &tokyo.endpoint());
    post(home.socket_of(0), "osaka", 0..40);
    post(home.socket_of(1), "tokyo", 0..40);
    wait::until("every event in log files", Duration::from_secs(120), || (posted(&home).len() >= 85).then_some(()));
    home.wait_until_all_digested();
    let twice: Vec<_> = posted(&home).into_iter().filter(|(_, times)| *times != 1).collect();
    assert_eq!(twice, [], "each once");
    let audit = home.verify(&["-o", "json"]);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
    assert_eq!(report["integrity"], true, "{report:#}");
}

#[test]
fn an_agent_that_goes_from_one_relay_to_the_other_and_back_loses_and_doubles_nothing() {
    let mut home = Deployment::with_one_agent();
    let (mut near, far) = (Station::set_up(&home, "near"), Station::set_up(&home, "far"));
    send(&mut home, 0, &[near.endpoint(), far.endpoint()]);
    await_session(&home, 0, &near.endpoint());
    let load = Load::start(&home);
    load.wait_for(200);
    for _ in 0..2 {
        near.kill();
        await_session(&home, 0, &far.endpoint());
        load.wait_for(200);
        near.start();
        await_session(&home, 0, &near.endpoint());
        load.wait_for(200);
    }
    load.finish(&home).judge(0);
}
