//! kill -9 of relays, home and agent under load: at random instants, and between the steps of a relay's own.

use edgetrail_disk::CRASH_POINTS;
use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::load::Load;

use crate::station::{Station, send};

/// `EDGETRAIL_RELAY_CYCLES` gives another number.
const CYCLES: u64 = 10;

#[test]
fn no_answered_event_is_lost_or_doubled_by_a_kill_of_relay_home_or_agent() {
    let (mut chance, seed) = Chance::from_environment();
    let cycles = number("EDGETRAIL_RELAY_CYCLES", CYCLES);
    let mut home = Deployment::with_one_agent();
    let mut relays = [Station::set_up(&home, "near"), Station::set_up(&home, "far")];
    send(&mut home, 0, &[relays[0].endpoint(), relays[1].endpoint()]);
    let load = Load::start(&home);
    let mut points = CRASH_POINTS.iter().filter(|point| point.starts_with("relay/")).cycle();
    for cycle in 0..cycles {
        load.wait_for(20);
        match chance.below(4) {
            0 => {
                home.kill_agent(0);
                home.start_agent(0);
            }
            1 => {
                home.kill_collector();
                load.wait_for(20);
                home.start_collector();
            }
            which => {
                let relay = &mut relays[usize::try_from(which - 2).unwrap()];
                relay.kill();
                load.wait_for(20);
                relay.start();
            }
        }
        // The first relay is the one that is preferred: it has something to bring.
        if cycle % 3 == 2 {
            relays[0].kill();
            relays[0].crash(&format!("{}:1", points.next().unwrap()));
            relays[0].start();
        }
    }
    load.finish(&home).judge(seed);
}
