//! A bounded fork bomb of a login user: what of it the kernel could not hand over is declared, never fewer events than are
//! missing, exactly where the serials prove it, and with what is known by.

use std::process::Command;
use std::time::Duration;

use edgetrail_tests::chance::number;
use edgetrail_tests::process::succeed;
use edgetrail_tests::wait;
use serde_json::Value;

use crate::acts::{Acts, login_user, named};
use crate::machine::{AuditOn, Login};
use crate::skipped;

/// Programs that the bomb starts. With some 1.5 KiB of records each the later half overruns the kernel's buffer of 32 MiB
/// while the agent stands still.
const PROGRAMS: u64 = 12_000;

/// How long the agent, unoptimised and beside other tests' work, may take for all of it.
const BACKLOG: Duration = Duration::from_secs(120);

/// Processes that start programs at once: two to the power of the halves below.
const LEAVES: u64 = 16;

/// A bomb in Perl: every process starts another until there are [`LEAVES`], each of which then runs its share of programs.
fn bomb(programs: u64) -> String {
    format!(
        "/usr/bin/perl -e '\
         my $first = 0; \
         for my $half (8, 4, 2, 1) {{ defined(my $child = fork) or die; $first += $half unless $child; }} \
         for (my $n = $first; $n < {programs}; $n += {LEAVES}) {{ \
           my $child = fork; redo unless defined $child; \
           exec(\"/bin/true\", $n) or die unless $child; \
           waitpid($child, 0); \
         }} \
         1 while wait() > 0;'"
    )
}

/// Stopped, and going on again when dropped.
struct Paused(u32);

impl Paused {
    fn now(process: u32) -> Self {
        succeed(Command::new("kill").args(["-STOP", &process.to_string()]));
        Self(process)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = Command::new("kill").args(["-CONT", &self.0.to_string()]).status() {
            eprintln!("the agent stays stopped: {error}");
        }
    }
}

/// What came of a bomb: how many programs have a record, and the gaps.
fn captured(standing_still: bool, programs: u64) -> (u64, Vec<Value>) {
    let audit = AuditOn::now();
    let acts = Acts::captured_by("[sources.audit]\nenabled = true\n[select]\ndata = true\n");
    let login = Login::prepare(acts.dir());
    audit.watch("execve", &format!("auid={}", login.uid()));
    let paused = standing_still.then(|| Paused::now(acts.agent()));
    login.ssh("127.0.0.2", &bomb(programs));
    drop(paused);
    audit.forget_rules();
    // The last of it: what comes before the reader has caught up may be lost, too, what comes behind is heard again.
    wait::until("a login behind the flood", BACKLOG, || {
        login.ssh("127.0.0.3", "true");
        acts.has("Login", "127.0.0.3").then_some(())
    });
    let all = acts.all_delivered();
    let is_program = |record: &&Value| record["userAgent"].as_str().is_some_and(|program| program.ends_with("/bin/true"));
    // Where the kernel's buffer overran in the middle of an event, its rest stands alone.
    let is_rest = |record: &&Value| record.pointer("/additionalEventData/edgetrail/incomplete").is_some() && !is_program(record);
    let told = named(&all, "ExecuteProgram").filter(is_program).filter(|record| login_user(record) == login.user());
    let told = (told.count() + all.iter().filter(is_rest).count()) as u64;
    (told, named(&all, "ReportGap").cloned().collect())
}

#[test]
fn what_a_fork_bomb_lost_is_declared_and_never_understated() {
    if skipped() {
        return;
    }
    let programs = number("EDGETRAIL_BOMB", PROGRAMS);
    for standing_still in [false, true] {
        let (told, gaps) = captured(standing_still, programs);
        let lost = programs.saturating_sub(told);
        let count = |gap: &Value| gap["requestParameters"]["count"].as_u64().expect("a count: the serials bound it");
        let declared: u64 = gaps.iter().map(count).sum();
        println!(
            "{programs} programs, {lost} of them lost, {declared} declared in {} gaps, agent stopped: {standing_still}",
            gaps.len()
        );
        assert!(declared >= lost, "{lost} were lost, {declared} declared: {gaps:#?}");
        assert!(lost > 0 || !standing_still, "the bomb was to overrun an agent that stands still");
        for gap in &gaps {
            let parameters = &gap["requestParameters"];
            let cause = parameters["cause"].as_str().unwrap_or_default();
            assert!(["kernel-loss", "source-overflow"].contains(&cause), "{gap:#}");
            assert_eq!(parameters["exact"], true, "a hole in the serials says how many: {gap:#}");
            assert!(parameters["evidence"].as_str().is_some_and(|evidence| evidence.contains("serial")), "{gap:#}");
        }
    }
}
