//! Loss, cuts and slow links on a real network between a real agent and a real collector: what was answered is delivered
//! exactly once. Packets are dropped, cables pulled and links slowed by the kernel; connections are cut in the middle of a
//! message by a proxy.
//!
//! Needs root, `ip`, `iptables` and `tc`; `tests/setup` installs them. Where they can't be had, it must be switched off by
//! name: EDGETRAIL_SKIP_NETWORK=1. It never passes silently.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod proxy;
mod wires;

use std::time::{Duration, Instant};

use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::deployment::{Deployment, Layout};
use edgetrail_tests::load::Load;
use edgetrail_tests::skip;

use proxy::Proxy;
use wires::Cable;

/// One of each kind. `EDGETRAIL_NETWORK_CYCLES` gives another number.
const CYCLES: u64 = 5;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Loss(f64),
    Cut,
    Vanished,
    Slow(&'static str),
}

#[test]
fn a_bad_network_neither_loses_nor_doubles() {
    if skip::unless_root("EDGETRAIL_SKIP_NETWORK", "a real network that loses and is cut") {
        return;
    }
    let cable = Cable::lay(0);
    let (mut chance, seed) = Chance::from_environment();
    let cycles = number("EDGETRAIL_NETWORK_CYCLES", CYCLES);
    let layout = Layout { address: cable.address.clone(), agents_in: Some(cable.namespace.clone()) };
    let deployment = Deployment::laid_out(layout);
    let load = Load::start(&deployment);
    let first = chance.below(4);
    for cycle in 0..cycles {
        let fault = match (first + cycle) % 4 {
            0 => Fault::Loss([0.05, 0.15, 0.3][usize::try_from(chance.below(3)).unwrap()]),
            1 => Fault::Cut,
            2 => Fault::Vanished,
            _ => Fault::Slow(["64kbit", "256kbit", "2mbit"][usize::try_from(chance.below(3)).unwrap()]),
        };
        let lasts = Duration::from_millis(500 + chance.below(2_500));
        eprintln!("cycle {cycle}: {fault:?} for {lasts:?}");
        match fault {
            Fault::Loss(share) => cable.lose(share),
            Fault::Cut => cable.plug(false),
            Fault::Vanished => cable.lose(1.0),
            Fault::Slow(rate) => cable.slow(rate),
        }
        // The agent goes on answering whatever the network does.
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            load.wait_for(2);
        }
        match fault {
            Fault::Cut => cable.plug(true),
            _ => cable.heal(),
        }
        load.wait_for(4);
    }
    load.finish(&deployment).judge(seed);
}

#[test]
fn connections_cut_amid_a_message_neither_lose_nor_double() {
    let (mut chance, seed) = Chance::from_environment();
    let cycles = number("EDGETRAIL_NETWORK_CYCLES", CYCLES);
    let mut deployment = Deployment::with_one_agent();
    let proxy = Proxy::before(deployment.ingest_port());
    deployment.redirect_agent(0, proxy.port());
    let load = Load::start(&deployment);
    for _ in 0..cycles {
        // Some bytes further on, in one direction, the connection is gone: amid a frame more often than not.
        let cuts = proxy.cuts();
        proxy.cut_after(1 + chance.below(6_000), chance.below(2) == 0);
        edgetrail_tests::wait::until("a cut connection", Duration::from_secs(60), || (proxy.cuts() > cuts).then_some(()));
        load.wait_for(3);
    }
    load.finish(&deployment).judge(seed);
}
