//! A database that was damaged while the agent was stopped, and its repair while the agent runs: nothing that was answered
//! is lost.

use std::io::{Seek, Write};

use edgetrail_tests::chance::Chance;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::load::Load;
use edgetrail_tests::process::succeed;
use serde_json::Value;

#[test]
fn a_running_agent_brings_back_what_its_damaged_database_held() {
    let (_, seed) = Chance::from_environment();
    let mut deployment = Deployment::with_one_agent();
    let mut load = Load::start(&deployment);
    load.wait_for(5);
    // What comes from here on lies in the buffer alone.
    deployment.kill_collector();
    load.wait_for(60);
    load.rest();
    deployment.stop_agent(0);
    let database = deployment.agent_state(0).join("buffer.sqlite");
    let mut file = std::fs::File::options().write(true).open(&database).unwrap();
    file.rewind().unwrap();
    file.write_all(&[0x55; 16]).unwrap();
    drop(file);

    deployment.start_agent(0);
    load.go_on();
    load.wait_for(5);
    assert!(deployment.agent_printed(0).contains("the buffer is damaged"), "capture goes on beside what was put aside");
    let repaired = succeed(deployment.agent_command(0).args(["buffer", "repair", "-o", "json"]));
    let repaired: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert!(repaired[0]["streams"].as_u64() >= Some(1) && repaired[0]["batches"].as_u64() >= Some(1), "{repaired:#}");
    let again = succeed(deployment.agent_command(0).args(["buffer", "repair", "-o", "json"]));
    assert_eq!(String::from_utf8_lossy(&again.stdout).trim(), "[]", "nothing is brought back twice");

    deployment.start_collector();
    load.finish(&deployment).judge_rehomed(seed);
}
