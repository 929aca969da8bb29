//! Scheduled commands: cron, crontab, at.
//!
//! Sources: Vixie cron's do_command.c, crontab.c, misc.c (`(USER) VERB (DETAIL)`), cronie's and at's atd.c.

use super::{Change, Said, Statement, Thing, between, word_after};

/// `(root) CMD (run-parts /etc/cron.hourly)`; anacron: ``Job `cron.daily' started``
pub(super) fn cron(message: &str) -> Option<Statement> {
    let run = |user: &str, command: &str, job: &str| {
        let (user, command, job) = (user.to_owned(), command.to_owned(), job.to_owned());
        Some(Statement::of(Said::ScheduledCommand { user, command, job }))
    };
    if let Some((job, _)) = message.strip_prefix("Job `").and_then(|rest| rest.split_once("' started")) {
        return run("root", "", job);
    }
    let (user, rest) = message.strip_prefix('(')?.split_once(") ")?;
    let (verb, detail) = rest.split_once(" (")?;
    let detail = detail.strip_suffix(')').unwrap_or(detail);
    match verb {
        // Some crons put their child's pid before it: `CMD ([1234] run-parts …)`
        "CMD" => run(
            user,
            detail.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(detail, |(_, command)| command).trim(),
            "",
        ),
        "RELOAD" => {
            let change = Change { is_own: true, ..Change::of("ReloadCrontab", Thing::Crontab, user) };
            Some(Statement { is_step: true, ..change.with("path", detail).said()? })
        }
        _ => None,
    }
}

/// `(root) REPLACE (alice)`
pub(super) fn crontab(message: &str) -> Option<Statement> {
    let (user, rest) = message.strip_prefix('(')?.split_once(") ")?;
    let (verb, owner) = rest.split_once(" (")?;
    let (name, is_step) = match verb {
        "REPLACE" => ("ModifyCrontab", false),
        "DELETE" => ("DeleteCrontab", false),
        "LIST" => ("ReadCrontab", true),
        // Editing ends with a REPLACE where anything changed.
        "BEGIN EDIT" | "END EDIT" => ("EditCrontab", true),
        _ => return None,
    };
    let change = Change { by: user.to_owned(), ..Change::of(name, Thing::Crontab, owner.trim_end_matches(')')) };
    Some(Statement { is_step, ..change.said()? })
}

/// `Starting job 3 (a0000301b2d3e4) for user 'alice' (1000)`
pub(super) fn atd(message: &str) -> Option<Statement> {
    let rest = message.strip_prefix("Starting job ")?;
    let user = between(rest, "for user '", "'").or_else(|| word_after(rest, "for user "))?.to_owned();
    let job = rest.split_whitespace().next()?.to_owned();
    Some(Statement::of(Said::ScheduledCommand { user, command: String::new(), job }))
}
