//! What is declared lost, and on whose account, from datagrams as the kernel sends them.

use super::*;
use crate::observation::{Outlet, intake};

fn joiner() -> (Joiner, Outlet) {
    let (intake, outlet) = intake();
    let mut joiner = Joiner::new(Origin::Kernel, None, intake);
    // Nothing of this host's own.
    (joiner.control, joiner.lost) = (None, None);
    (joiner, outlet)
}

/// A chunk of one record for each serial.
fn chunk(serials: &[u32]) -> Chunk {
    let mut chunk = Chunk::default();
    for serial in serials {
        let text = format!("audit(1700000000.000:{serial}): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='op=test'");
        let mut datagram = Vec::new();
        datagram.extend_from_slice(&u32::try_from(16 + text.len()).unwrap().to_ne_bytes());
        datagram.extend_from_slice(&1105u16.to_ne_bytes());
        datagram.extend_from_slice(&[0; 10]);
        datagram.extend_from_slice(text.as_bytes());
        chunk.push(&datagram);
    }
    chunk
}

/// What the joiner declares lost, all holes settled.
fn losses(joiner: &mut Joiner) -> Vec<(GapCause, Option<u64>, bool, String)> {
    while let Some(hole) = joiner.serials.settled(u64::MAX) {
        joiner.lose_hole(&hole);
    }
    let losses = joiner.group.drain(..).filter_map(|observation| match observation.payload {
        Payload::Loss(Loss { cause, count, exact, evidence, .. }) => Some((cause, count, exact, evidence)),
        _ => None,
    });
    losses.collect()
}

#[test]
fn a_hole_in_the_serials_is_the_kernels_exact_loss() {
    let (mut joiner, _outlet) = joiner();
    joiner.take_chunk(&chunk(&[5, 9]));
    let evidence = "audit serials 6 to 8 never came".to_owned();
    assert_eq!(losses(&mut joiner), [(GapCause::KernelLoss, Some(3), true, evidence)]);
}

#[test]
fn an_overrun_while_the_agents_own_queue_was_full_is_the_sources() {
    let (mut joiner, _outlet) = joiner();
    joiner.take_chunk(&chunk(&[5]));
    joiner.take_chunk(&Chunk { overruns: 1, is_behind: true, ..chunk(&[6]) });
    joiner.take_chunk(&Chunk { is_behind: true, ..chunk(&[10]) });
    let evidence = "audit serials 7 to 9 never came: the agent's own queue was full".to_owned();
    assert_eq!(losses(&mut joiner), [(GapCause::SourceOverflow, Some(3), true, evidence)]);
}

#[test]
fn an_overrun_though_the_agent_kept_up_is_the_kernels() {
    let (mut joiner, _outlet) = joiner();
    joiner.take_chunk(&Chunk { overruns: 1, ..chunk(&[5, 7]) });
    assert_eq!(losses(&mut joiner)[0].0, GapCause::KernelLoss);
}

#[test]
fn an_overrun_that_nothing_bounds_has_no_count() {
    let (mut joiner, _outlet) = joiner();
    joiner.take_chunk(&Chunk { overruns: 1, ..chunk(&[5]) });
    joiner.overrun = Some(Overrun { probed: Some(0) });
    joiner.find_tail(PROBE_MAX);
    let [(cause, count, exact, evidence)] = &losses(&mut joiner)[..] else { panic!("not one loss") };
    assert_eq!((*cause, *count, *exact), (GapCause::KernelLoss, None, false));
    assert!(evidence.contains("ENOBUFS"));
}

#[test]
fn the_kernels_own_count_bounds_and_a_reset_hides_nothing() {
    let (mut joiner, _outlet) = joiner();
    joiner.lost = Some(3);
    joiner.lost_reached(10);
    let reset = Stamped::from_kernel(1305, b"audit(1700000000.000:7): op=set lost=0 old=12 auid=0 ses=1 res=1").unwrap();
    joiner.take_reset(&reset);
    joiner.lost_reached(4);
    let counts: Vec<_> = losses(&mut joiner).into_iter().map(|(cause, count, exact, _)| (cause, count, exact)).collect();
    assert_eq!(counts, [7, 2, 4].map(|count| (GapCause::KernelLoss, Some(count), false)));
}

#[test]
fn what_waits_to_be_joined_is_not_given_up_while_its_rest_may_have_been_received() {
    let (mut joiner, _outlet) = joiner();
    let record = |kind: u16, text: &str| {
        let text = format!("audit(1700000000.000:5): {text}");
        let mut datagram = u32::try_from(16 + text.len()).unwrap().to_ne_bytes().to_vec();
        datagram.extend_from_slice(&kind.to_ne_bytes());
        datagram.extend_from_slice(&[0; 10]);
        datagram.extend_from_slice(text.as_bytes());
        let mut chunk = Chunk::default();
        chunk.push(&datagram);
        chunk
    };
    joiner.take_chunk(&record(kinds::SYSCALL, "arch=c000003e syscall=59 pid=7"));
    // The pipeline was slow: the rest of the event has waited in the queue for longer than an event is given.
    joiner.since -= Duration::from_secs(60);
    joiner.is_caught_up = false;
    joiner.settle();
    joiner.take_chunk(&record(kinds::EXECVE, "argc=1 a0=\"true\""));
    joiner.take_chunk(&record(kinds::EOE, ""));
    joiner.is_caught_up = true;
    joiner.settle();
    let events: Vec<Event> = joiner
        .group
        .drain(..)
        .filter_map(|observation| match observation.payload {
            Payload::Audit(event) => Some(event),
            _ => None,
        })
        .collect();
    let [event] = &events[..] else { panic!("one act, one event: {events:?}") };
    assert!(event.complete && event.records.len() == 2, "{event:?}");
}
