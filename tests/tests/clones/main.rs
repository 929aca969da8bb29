//! Copies of an agent's state directory, as images and snapshots make them: the original and its clone never both go on
//! unseen, a restored snapshot goes on by itself, and nothing that was answered before is lost.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::load::Load;
use edgetrail_tests::process::{binary, succeed};
use edgetrail_tests::wait;

/// Clones and restorations in the short tier. `EDGETRAIL_CLONES` gives another number.
const CYCLES: u64 = 5;

/// Attributes, times and links as they are; what was there before goes.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

#[test]
fn a_restored_snapshot_goes_on_and_loses_nothing_that_was_delivered() {
    let (mut chance, seed) = Chance::from_environment();
    for _ in 0..number("EDGETRAIL_CLONES", CYCLES).div_ceil(2) {
        let mut deployment = Deployment::with_one_agent();
        let snapshot = deployment.dir().join("snapshot");
        let mut load = Load::start(&deployment);
        load.wait_for(3 + usize::try_from(chance.below(40)).unwrap());
        deployment.kill_agent(0);
        copy(&deployment.agent_state(0), &snapshot);
        deployment.start_agent(0);
        load.wait_for(3 + usize::try_from(chance.below(60)).unwrap());
        load.rest();
        let sealed = deployment.status(0)["buffer"]["head"]["k"].as_u64().map(|k| k + 1);
        // What the agent has receipts for is safe from here on; what it has none for goes with the disk, and is reported.
        wait::until("receipts for everything", Duration::from_secs(60), || {
            let receipted = deployment.status(0)["buffer"]["receipted"]["k"].as_u64();
            (receipted >= sealed).then_some(())
        });
        deployment.kill_agent(0);
        copy(&snapshot, &deployment.agent_state(0));
        deployment.start_agent(0);
        load.go_on();
        load.wait_for(5);
        load.finish(&deployment).judge_rehomed(seed);
        let printed = deployment.agent_printed(0);
        assert!(!printed.contains("two branches"), "a restored agent is no clone: {printed}");
    }
}

#[test]
fn a_clone_freezes_both_and_loses_nothing_of_the_original() {
    let (mut chance, seed) = Chance::from_environment();
    for _ in 0..number("EDGETRAIL_CLONES", CYCLES).div_ceil(2) {
        let mut deployment = Deployment::with_one_agent();
        let load = Load::start(&deployment);
        load.wait_for(3 + usize::try_from(chance.below(40)).unwrap());
        deployment.kill_agent(0);
        let clone = deployment.clone_agent(0);
        deployment.start_agent(0);
        load.wait_for(3);
        deployment.start_agent(clone);
        // Two now act on one state: at the second's first batch or open the collector knows.
        wait::until("FORK", Duration::from_secs(90), || {
            deployment.collector_printed().contains("ForkStream").then_some(()).or_else(|| {
                let told = [0, clone].iter().any(|agent| deployment.agent_printed(*agent).contains("two branches"));
                told.then_some(())
            })
        });
        evidence_shows_the_fork(&deployment);
        // Both go on capturing; the rightful one joins again with a token and brings everything.
        load.wait_for(3);
        deployment.kill_agent(clone);
        deployment.rejoin_agent(0);
        load.wait_for(3);
        load.finish(&deployment).judge_rehomed(seed);
    }
}

/// What the operator's commands say of a fork: listed, exported, and proven offline against the CA. Where both took turns in
/// opening streams, it is what each goes on sealing behind the other's open that proves it.
fn evidence_shows_the_fork(deployment: &Deployment) {
    let list = |output: &str| deployment.collector_command().args(["evidence", "list", "-o", output]).output().unwrap().stdout;
    let forks = wait::until("kept evidence", Duration::from_secs(60), || {
        let forks: serde_json::Value = serde_json::from_slice(&list("json")).unwrap();
        forks[0].is_object().then_some(forks)
    });
    println!("{forks:#}\n{}", String::from_utf8_lossy(&list("text")));
    let id = forks[0]["agent"].as_str().unwrap();
    let file = deployment.dir().join("fork.json");
    let mut said = String::new();
    let page = wait::until("a proof of the fork", Duration::from_secs(120), || {
        let export = deployment.collector_command().args(["evidence", "export", id, "-o"]).arg(&file).output().unwrap();
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        let mut verify = Command::new(binary("edgetrail-verify"));
        let verified = verify.arg("fork").arg(&file).arg("--ca").arg(deployment.ca()).output().unwrap();
        let page = String::from_utf8_lossy(&verified.stdout).into_owned();
        if page != said {
            println!("{page}{}", String::from_utf8_lossy(&verified.stderr));
            said.clone_from(&page);
        }
        (verified.status.success() && page.contains("PROVEN: ")).then_some(page)
    });
    let evidence: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(!evidence["receiptKeys"].as_array().unwrap().is_empty(), "the keys of its receipts are in it");
    if evidence["committed"].as_array().is_some_and(|committed| !committed.is_empty()) {
        assert!(page.contains("receipt") && !page.contains("not checked"), "what was committed has a receipt that holds: {page}");
    }
}
