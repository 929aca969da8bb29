//! The kernel's records, live.
//!
//! Two threads: the [`receiver`](super::receiver) only receives; this one joins, finds what is missing and hands on. It
//! never sleeps shorter than [`STATUS_INTERVAL`] unless an event or a hole is open. What [`Own`] did is not an event.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::accounts::{Accounts, LOOK_EVERY};
use super::assembler::{Assembler, Event, Origin};
use super::cursor::{KERNEL_KEY, KernelPlace, half_joined};
use super::kinds;
use super::message::Message;
use super::own::Own;
use super::plugin;
use super::receiver::{CHUNKS_MAX, Chunk, receive};
use super::record::{Stamp, Stamped};
use super::rules::Keeper;
use super::serials::{Hole, SETTLE, Serials};
use super::socket::Listener;
use super::status::{AUDITING_IS_OFF, Control};
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Stopped, Unparsed};
use crate::sources::SourceError;

/// How often the kernel's own count of lost records is read: a flood is declared within a second.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// After an overrun, quiet this long means that the tail may be among what was lost, milliseconds.
const TAIL_QUIET: u64 = 200;

/// A probe's own record arrives at once; without one in this time nothing bounds the loss, milliseconds.
const PROBE_MAX: u64 = 1000;

/// Stack of each of the two threads, bytes. Their frames hold no buffers.
const STACK_BYTES: usize = 256 * 1024;

/// Whose stream is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// The group that everybody may read, beside a running auditd.
    #[default]
    Multicast,
    /// The kernel's own, in auditd's place: the kernel waits for the reader instead of dropping.
    Unicast,
    /// auditd's, as its plugin: standard input, or the socket of its `af_unix` plugin.
    Plugin { socket: Option<std::path::PathBuf> },
}

/// The way in, open.
enum Way {
    Netlink(Listener),
    Lines(OwnedFd),
}

impl Stream {
    fn open(&self) -> Result<Way, SourceError> {
        match self {
            Self::Multicast => {
                let listener = Listener::open().map_err(|error| unavailable(&error))?;
                let Listener { passed, buffer_bytes, .. } = listener;
                tracing::info!(passed, buffer_bytes, "listening to the kernel's audit records");
                Ok(Way::Netlink(listener))
            }
            Self::Unicast => {
                let mut control = Control::open().map_err(|error| unavailable(&error))?;
                let listener = Listener::take_over(&mut control).map_err(|error| unavailable(&error))?;
                tracing::info!(buffer_bytes = listener.buffer_bytes, "took over the kernel's audit records");
                Ok(Way::Netlink(listener))
            }
            Self::Plugin { socket } => {
                let input = plugin::open(socket.as_deref()).map_err(|error| failed("connecting to auditd", error))?;
                tracing::info!("listening to auditd's records");
                Ok(Way::Lines(input))
            }
        }
    }

    const fn origin(&self) -> Origin {
        match self {
            Self::Multicast | Self::Unicast => Origin::Kernel,
            // auditd's lines may lack end marks.
            Self::Plugin { .. } => Origin::Log,
        }
    }
}

/// Runs until told to stop. `start` is the cursor of [`KERNEL_KEY`], if there is one.
pub async fn run(
    stream: Stream,
    rules: Option<Keeper>,
    start: Option<Cursor>,
    intake: Intake,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let way = stream.open()?;
    let wake =
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(|errno| failed("making an eventfd", errno))?;
    let wake = Arc::new(wake);
    let (chunks, outlet) = sync_channel(CHUNKS_MAX);
    let (ended, end) = oneshot::channel();
    let joiner = Joiner { rules, ..Joiner::new(stream.origin(), start, intake) };
    let receiver = {
        let wake = Arc::clone(&wake);
        thread("audit-receive", move || match way {
            Way::Netlink(listener) => receive(&listener, &wake, &chunks),
            Way::Lines(input) => plugin::receive(&input, &wake, &chunks),
        })?
    };
    let joiner = thread("audit-join", move || {
        if ended.send(joiner.run(&outlet)).is_err() {
            tracing::debug!("nobody waits for the audit source's end");
        }
    })?;
    let mut end = end;
    let result = tokio::select! {
        result = &mut end => result,
        () = stop.cancelled() => {
            wake_up(&wake);
            end.await
        }
    };
    // Both threads are ending: the joiner said so, the receiver's channel or eventfd did.
    wake_up(&wake);
    for handle in [receiver, joiner] {
        if handle.join().is_err() {
            return Err(failed("joining events", std::io::Error::other("a thread panicked")));
        }
    }
    if stream == Stream::Unicast {
        // Without an owner the kernel prints its records instead of waiting for one that is gone.
        let given = Control::open().and_then(|mut control| control.give_back());
        if let Err(error) = given {
            tracing::debug!(%error, "the audit stream could not be given back");
        }
    }
    result.map_err(|gone| failed("joining events", gone))?
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, SourceError> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn(body).map_err(|error| failed("starting a thread", error))
}

fn wake_up(wake: &OwnedFd) {
    if let Err(errno) = rustix::io::write(wake, &1u64.to_ne_bytes()) {
        tracing::warn!(%errno, "the audit receiver could not be woken");
    }
}

fn unavailable(error: &dyn std::error::Error) -> SourceError {
    SourceError::Unavailable { source_name: SourceName::Audit, why: error.to_string() }
}

fn failed(doing: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
    SourceError::Failed { source_name: SourceName::Audit, doing: doing.to_owned(), cause: cause.into() }
}

/// The state of the joining thread.
struct Joiner {
    assembler: Assembler,
    serials: Serials,
    boot: String,
    /// Time of the last cursor, Unix nanoseconds, where that was in another boot.
    former_boot: Option<u64>,
    own: Own,
    control: Option<Control>,
    /// The kernel's count of lost records, as last read.
    lost: Option<u32>,
    next_status: u64,
    accounts: Accounts,
    /// When the users' file is looked at next, should a name be awaited, milliseconds.
    next_look: u64,
    overrun: Option<Overrun>,
    /// From when to when the socket overran because this process did not take what was received, milliseconds.
    behind: Option<(u64, u64)>,
    /// When a record last came, milliseconds.
    last_record: u64,
    /// Puts managed rules back.
    rules: Option<Keeper>,
    /// Nothing that was received waits: what an event or a hole still lacks has not come. While something does, the
    /// rest may lie there, however late it is.
    is_caught_up: bool,
    intake: Intake,
    group: Vec<Observation>,
    since: Instant,
}

/// An overrun of the socket whose extent is not known yet.
struct Overrun {
    /// When a probe was made, milliseconds.
    probed: Option<u64>,
}

/// Answers to requests and the kernel's question whether its owner still lives: no records.
fn is_control(kind: u16) -> bool {
    kind < kinds::LOGIN && kind != 1005 || (kinds::LOGIN + 1..1100).contains(&kind) || kind == REPLACE
}

/// The kernel asks the owner of its stream for life. Source: AUDIT_REPLACE in linux/audit.h.
const REPLACE: u16 = 1329;

impl Joiner {
    fn new(origin: Origin, start: Option<Cursor>, intake: Intake) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let mut control = Control::open().ok();
        let status = control.as_mut().and_then(|control| control.status().ok());
        if status.is_some_and(|status| status.enabled == 0) {
            tracing::warn!("{AUDITING_IS_OFF}");
        }
        let lost = status.map(|status| status.lost);
        let mut joiner = Self {
            assembler: Assembler::new(origin),
            serials: Serials::default(),
            boot,
            former_boot: None,
            own: Own::new(),
            control: control.filter(|_| lost.is_some()),
            lost,
            next_status: 0,
            accounts: Accounts::default(),
            next_look: 0,
            overrun: None,
            behind: None,
            last_record: 0,
            rules: None,
            is_caught_up: true,
            intake,
            group: Vec::new(),
            since: Instant::now(),
        };
        if let Some(place) = start.and_then(|cursor| serde_json::from_slice::<KernelPlace>(&cursor.value).ok()) {
            joiner.resume(&place);
        }
        joiner
    }

    /// In the same boot, what the kernel counted meanwhile is missing; in another, what it counted before this start.
    fn resume(&mut self, place: &KernelPlace) {
        if place.boot != self.boot {
            self.former_boot = Some(place.stamp().nanoseconds());
            return;
        }
        self.serials.resume(place.stamp());
        let mut events = Vec::new();
        for stamped in place.half_joined.iter().filter_map(super::cursor::HalfJoined::restore) {
            self.assembler.push(stamped, 0, &mut events);
        }
        self.take_events(events);
    }

    fn run(mut self, chunks: &Receiver<Chunk>) -> Result<(), SourceError> {
        let mut next = None;
        loop {
            let received = match next.take() {
                Some(chunk) => Ok(chunk),
                None => chunks.recv_timeout(self.patience()),
            };
            let failure = match received {
                Ok(chunk) => {
                    let failure = self.take_chunk(&chunk);
                    next = chunks.try_recv().ok();
                    self.is_caught_up = next.is_none() && !chunk.is_full;
                    failure
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.is_caught_up = true;
                    None
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.stop();
                    return Ok(());
                }
            };
            self.settle();
            if self.send().is_err() {
                return Ok(());
            }
            if let Some(errno) = failure {
                return Err(failed("receiving audit records", errno));
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        let tail = self.overrun.as_ref().map(|overrun| match overrun.probed {
            None => self.last_record.saturating_add(TAIL_QUIET),
            Some(at) => at.saturating_add(PROBE_MAX),
        });
        let status = self.control.is_some().then_some(self.next_status);
        let look = self.assembler.unnamed().next().map(|_| self.next_look);
        let rules = self.rules.as_ref().map(Keeper::next_look);
        let due = [self.assembler.deadline(), self.serials.deadline(), tail, status, look, rules].into_iter().flatten().min();
        match due {
            Some(due) => Duration::from_millis(due.saturating_sub(self.now()).max(1)),
            None => Duration::from_secs(3600),
        }
    }

    fn take_chunk(&mut self, chunk: &Chunk) -> Option<rustix::io::Errno> {
        let now = self.now();
        let mut events = Vec::new();
        match &mut self.behind {
            Some((_, to)) if chunk.is_behind => *to = now,
            behind if chunk.is_behind && chunk.overruns > 0 => *behind = Some((now, now)),
            _ => {}
        }
        for datagram in chunk.datagrams() {
            let Some(message) = Message::of_datagram(datagram) else { continue };
            if is_control(message.kind) {
                continue;
            }
            match Stamped::from_kernel(message.kind, message.payload) {
                Ok(stamped) => self.take_record(stamped, now, &mut events),
                Err(reason) => {
                    let time = unix_nanoseconds();
                    let unparsed = Unparsed { bytes: message.payload.to_vec(), reason: reason.to_string() };
                    self.observe(format!("unparsed/{time}"), time, Payload::Unparsed(unparsed));
                }
            }
        }
        for line in chunk.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match Stamped::from_line(line) {
                Ok(stamped) => self.take_record(stamped, now, &mut events),
                Err(reason) => {
                    let time = unix_nanoseconds();
                    let unparsed = Unparsed { bytes: line.to_vec(), reason: reason.to_string() };
                    self.observe(format!("unparsed/{time}"), time, Payload::Unparsed(unparsed));
                }
            }
        }
        self.take_events(events);
        if chunk.overruns > 0 {
            tracing::warn!(overruns = chunk.overruns, "the audit socket overran: records are lost");
            self.overrun = Some(Overrun { probed: None });
        }
        chunk.failed
    }

    fn take_record(&mut self, stamped: Stamped, now: u64, events: &mut Vec<Event>) {
        self.last_record = now;
        // auditd's plugin also hands on what other hosts send it: their serials are their own.
        if stamped.node.as_deref().is_some_and(|node| !self.own.is_here(node)) {
            self.assembler.push(stamped, now, events);
            return;
        }
        if let Some(since) = self.former_boot.take()
            && let Some(before) = stamped.stamp.serial.checked_sub(1)
        {
            let evidence = "the kernel had counted these events since boot before the agent listened".to_owned();
            self.lose(
                GapCause::KernelLoss,
                stamped.stamp,
                Some(u64::from(before)),
                false,
                evidence,
                since,
                stamped.stamp.nanoseconds(),
            );
        }
        if self.overrun.as_ref().is_some_and(|overrun| overrun.probed.is_some()) {
            // A record behind the overrun: from here on the serials tell what is missing.
            self.overrun = None;
        }
        self.serials.observe(stamped.stamp, now);
        if stamped.record.is(kinds::CONFIG_CHANGE) {
            self.take_reset(&stamped);
            if let Some(rules) = &mut self.rules {
                rules.changed(&stamped.record.text(), now);
            }
        }
        self.assembler.push(stamped, now, events);
    }

    /// `op=set lost=0 old=N`: somebody reset the kernel's count; what it had reached is only told here.
    fn take_reset(&mut self, stamped: &Stamped) {
        let text = stamped.record.text();
        let Some((_, after)) = text.split_once("lost=0 old=") else { return };
        let old = after.split(' ').next().and_then(|old| old.parse().ok());
        if let Some(old) = old {
            self.lost_reached(old);
            self.lost = Some(0);
        }
    }

    fn take_events(&mut self, events: Vec<Event>) {
        for event in events {
            if !self.own.did(&event) {
                let (position, time) = (event.position(), event.stamp.nanoseconds());
                self.observe(position, time, Payload::Audit(event));
            }
        }
    }

    /// Everything that time decides.
    fn settle(&mut self) {
        let now = self.now();
        let mut events = Vec::new();
        self.find_names(now, &mut events);
        if self.is_caught_up {
            self.assembler.expire(now, &mut events);
        }
        self.take_events(events);
        let holes_until = if self.is_caught_up { now } else { 0 };
        while let Some(hole) = self.serials.settled(holes_until) {
            self.lose_hole(&hole);
        }
        if self.is_caught_up {
            self.find_tail(now);
        }
        if let Some(rules) = &mut self.rules {
            rules.look(now);
        }
        if now >= self.next_status {
            self.next_status = now.saturating_add(u64::try_from(STATUS_INTERVAL.as_millis()).unwrap_or(u64::MAX));
            if let Some(status) = self.control.as_mut().and_then(|control| control.status().ok()) {
                self.lost_reached(status.lost);
            }
        }
    }

    fn find_names(&mut self, now: u64, events: &mut Vec<Event>) {
        if now < self.next_look {
            return;
        }
        let unnamed: Vec<u32> = self.assembler.unnamed().collect();
        if !unnamed.is_empty() {
            self.next_look = now.saturating_add(LOOK_EVERY);
        }
        for id in unnamed.into_iter().filter(|id| self.accounts.has(*id)) {
            self.assembler.named(id, events);
        }
    }

    /// After an overrun and then silence, the last events may be among the lost: joining the group once more makes the
    /// kernel write a record, whose serial tells.
    fn find_tail(&mut self, now: u64) {
        let Some(overrun) = &mut self.overrun else { return };
        match overrun.probed {
            None if now >= self.last_record.saturating_add(TAIL_QUIET) => {
                overrun.probed = Some(now);
                if let Err(error) = Listener::open_another() {
                    tracing::debug!(%error, "the end of an overrun can't be probed");
                }
            }
            Some(at) if now >= at.saturating_add(PROBE_MAX) => {
                self.overrun = None;
                let time = unix_nanoseconds();
                let stamp = self.serials.last().unwrap_or(Stamp { seconds: 0, milliseconds: 0, serial: 0 });
                let evidence = "recv said ENOBUFS, and no later record bounds what was lost".to_owned();
                let cause = self.cause_at(now);
                self.lose(cause, stamp, None, false, evidence, stamp.nanoseconds(), time);
            }
            _ => {}
        }
    }

    fn lose_hole(&mut self, hole: &Hole) {
        let stamp = Stamp { seconds: hole.to / 1_000_000_000, milliseconds: 0, serial: hole.last };
        let cause = self.cause_at(hole.seen);
        let while_behind = if cause == GapCause::SourceOverflow { ": the agent's own queue was full" } else { "" };
        let evidence = format!("audit serials {} to {} never came{while_behind}", hole.first, hole.last);
        self.lose(cause, stamp, Some(hole.count()), true, evidence, hole.from, hole.to);
    }

    /// The kernel's count is of records; no fewer than one belongs to each lost event, so that it bounds them.
    fn lost_reached(&mut self, lost: u32) {
        let before = self.lost.replace(lost).unwrap_or(lost);
        if let Some(more) = lost.checked_sub(before).filter(|more| *more > 0) {
            let time = unix_nanoseconds();
            let stamp = self.serials.last().unwrap_or(Stamp { seconds: 0, milliseconds: 0, serial: 0 });
            let evidence = format!("the kernel's count of lost records rose from {before} to {lost}");
            self.lose(GapCause::KernelLoss, stamp, Some(u64::from(more)), false, evidence, stamp.nanoseconds(), time);
        }
    }

    /// Whose queue overflowed when a hole opened: this process's, or the kernel's though this process kept up.
    fn cause_at(&self, seen: u64) -> GapCause {
        let is_behind = self.behind.is_some_and(|(from, to)| (from..=to.saturating_add(SETTLE)).contains(&seen));
        if is_behind { GapCause::SourceOverflow } else { GapCause::KernelLoss }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a gap says")]
    fn lose(&mut self, cause: GapCause, at: Stamp, count: Option<u64>, exact: bool, evidence: String, from: u64, to: u64) {
        tracing::warn!(count, exact, evidence, "audit events are lost");
        let loss = Loss { cause, count, exact, evidence, from, to: to.max(from) };
        let time = unix_nanoseconds();
        self.observe(format!("loss/{}/{}/{time}", self.boot, at.serial), time, Payload::Loss(loss));
    }

    fn observe(&mut self, position: String, time: u64, payload: Payload) {
        self.group.push(Observation { source: SourceName::Audit, position, time, payload, cursor: None, answer: None });
    }

    /// Hands the group on, its last observation with the cursor behind all of it.
    fn send(&mut self) -> Result<(), Stopped> {
        if !self.group.is_empty() {
            let cursor = self.cursor();
            if let Some(last) = self.group.last_mut() {
                last.cursor = cursor;
            }
        }
        while !self.group.is_empty() {
            let rest = self.group.split_off(self.group.len().min(GROUP_MAX));
            self.intake.send_blocking(std::mem::replace(&mut self.group, rest))?;
        }
        Ok(())
    }

    fn cursor(&self) -> Option<Cursor> {
        let Stamp { seconds, milliseconds, serial } = self.serials.last()?;
        let half_joined = half_joined(&self.assembler);
        let place = KernelPlace { boot: self.boot.clone(), serial, seconds, milliseconds, half_joined };
        let value = serde_json::to_vec(&place).ok()?;
        Some(Cursor { key: KERNEL_KEY.to_owned(), value })
    }

    /// An orderly stop: what is half-joined goes into the cursor, what is missing is declared.
    fn stop(&mut self) {
        while let Some(hole) = self.serials.settled(u64::MAX) {
            self.lose_hole(&hole);
        }
        if self.group.is_empty() && self.serials.last().is_some() {
            self.observe(String::new(), unix_nanoseconds(), Payload::Nothing);
        }
        if self.send().is_err() {
            tracing::debug!("the pipeline stopped before the audit source");
        }
    }
}

fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
