//! Datagrams of the audit netlink socket, each behind its length as u16: message, record, event, trail record.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::audit::message::Message;
use edgetrail_agent::sources::audit::{Assembler, Origin, Stamped};
use edgetrail_fuzz::{Bench, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagrams: &[u8]| {
    let mut bench = Bench::default();
    let mut assembler = Assembler::new(Origin::Kernel);
    let mut events = Vec::new();
    for (now, datagram) in (0_u64..).step_by(100).zip(pieces(datagrams)) {
        let Some(message) = Message::of_datagram(datagram) else { continue };
        if let Some(errno) = message.errno() {
            assert_eq!(message.kind, edgetrail_agent::sources::audit::message::ERROR, "{errno}");
        } else if let Ok(stamped) = Stamped::from_kernel(message.kind, message.payload) {
            assembler.push(stamped, now, &mut events);
        }
    }
    assembler.expire(u64::MAX, &mut events);
    assert!(assembler.is_empty(), "what is not complete is given out in the end");
    for event in events {
        let (position, time) = (event.position(), event.stamp.nanoseconds());
        let payload = Payload::Audit(event);
        bench.judge(&Observation { source: SourceName::Audit, position, time, payload, cursor: None, answer: None });
    }
});
