//! Where the source goes on: the last serial of this boot or a place in audit.log, and the records of events that were
//! still being joined there.

use serde::{Deserialize, Serialize};

use super::assembler::{Assembler, Event};
use super::kinds;
use super::record::{RawRecord, RecordType, Stamp, Stamped};

/// Key of the kernel reader's cursor.
pub const KERNEL_KEY: &str = "audit/kernel";

/// The kernel reader's place: only serials of the same boot compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelPlace {
    pub boot: String,
    pub serial: u32,
    pub seconds: u64,
    pub milliseconds: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub half_joined: Vec<HalfJoined>,
}

/// The log follower's place: behind the last line that was read whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    pub device: u64,
    pub inode: u64,
    /// +1 whenever the same inode was cut short and written anew.
    pub generation: u64,
    pub offset: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub half_joined: Vec<HalfJoined>,
}

/// A record of an event that was not complete, as a line of audit.log would have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfJoined(String);

/// Most bytes of half-joined records that a cursor holds; beyond them the oldest events go on alone.
const HALF_JOINED_BYTES_MAX: usize = 256 * 1024;

/// The records that `assembler` still joins, within the cursor's bound.
pub fn half_joined(assembler: &Assembler) -> Vec<HalfJoined> {
    let mut bytes = 0usize;
    let mut lines: Vec<HalfJoined> = Vec::new();
    for (event, record) in assembler.half_joined() {
        bytes = bytes.saturating_add(record.text.len());
        if bytes > HALF_JOINED_BYTES_MAX {
            break;
        }
        lines.push(HalfJoined::of(event, record));
    }
    lines
}

impl HalfJoined {
    fn of(event: &Event, record: &RawRecord) -> Self {
        let node = event.node.as_ref().map(|node| format!("node={node} ")).unwrap_or_default();
        Self(format!("{node}type={} msg=audit({}): {}", record.kind, event.stamp, record.text()))
    }

    /// None where the cursor was damaged: the event then goes on without it.
    pub fn restore(&self) -> Option<Stamped> {
        Stamped::from_line(self.0.as_bytes()).ok().filter(|stamped| stamped.record.kind != RecordType::Number(kinds::EOE))
    }
}

impl KernelPlace {
    pub fn stamp(&self) -> Stamp {
        Stamp { seconds: self.seconds, milliseconds: self.milliseconds, serial: self.serial }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembler::Origin;
    use super::*;

    #[test]
    fn half_an_event_goes_on_after_a_restart() {
        let (mut before, mut after, mut out) = (Assembler::new(Origin::Kernel), Assembler::new(Origin::Kernel), Vec::new());
        let half = Stamped::from_kernel(kinds::SYSCALL, b"audit(1.002:3): pid=1").unwrap();
        before.push(half, 0, &mut out);
        for line in half_joined(&before) {
            after.push(line.restore().unwrap(), 0, &mut out);
        }
        after.push(Stamped::from_kernel(kinds::EOE, b"audit(1.002:3): ").unwrap(), 0, &mut out);
        assert_eq!(out.len(), 1);
        assert!(out[0].complete && out[0].record(kinds::SYSCALL).is_some());
    }
}
