//! What a human reads: verdicts first, then hosts and hours, then each finding with what to do about it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::record::format_time;

use crate::account::{HOUR, Hour, StreamAccount, cause_text};
use crate::advice::advice;
use crate::report::{Check, Finding, Report, Seen, Verdict};
use crate::table::{Align, Table};

/// Most places of one check that a page names; `-o json` has all.
const PLACES_MAX: usize = 12;

/// Most rows of hours that a page shows.
const HOURS_MAX: usize = 200;

/// A whole trail's report.
#[derive(Debug)]
pub struct TrailPage<'a> {
    pub report: &'a Report,
    /// Every hour, not only those that are not whole.
    pub all_hours: bool,
}

/// One agent's streams.
#[derive(Debug)]
pub struct StreamPage<'a> {
    pub report: &'a Report,
    pub streams: &'a [(StreamId, &'a StreamAccount)],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TrailPage { report: self, all_hours: false }.fmt(f)
    }
}

impl fmt::Display for TrailPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        write_verdicts(f, report)?;
        let Seen { digests, log_files, proofs, records, records_proven, streams, batches } = &report.seen;
        writeln!(f, "\nRead: {digests} digests, {log_files} log files, {proofs} proofs; streams: {streams}, batches: {batches}")?;
        writeln!(f, "      {records} records, {records_proven} of them followed to their host's seal")?;
        let hosts = report.accounts.hosts();
        let mut table = Table::new(hour_columns([("HOST", Align::Left), ("STREAMS", Align::Right), ("HOURS", Align::Right)]));
        for ((host, _), account) in &hosts {
            let mut all = Hour::default();
            account.hours.values().for_each(|hour| all.add(hour));
            let span = span(&account.hours).len();
            table.row(hour_cells([host.clone(), account.streams.len().to_string(), span.to_string()], &all));
        }
        if !table.is_empty() {
            write!(f, "\nHosts\n{table}")?;
        }
        let mut table = Table::new(hour_columns([("HOST", Align::Left), ("HOUR", Align::Left)]));
        let (mut shown, mut more) = (0, 0);
        for ((host, _), account) in &hosts {
            for (start, hour) in span(&account.hours) {
                if !self.all_hours && hour.is_whole() {
                    continue;
                }
                shown += 1;
                if shown > HOURS_MAX && !self.all_hours {
                    more += 1;
                    continue;
                }
                table.row(hour_cells([host.clone(), hour_name(start)], &hour));
            }
        }
        if !table.is_empty() {
            let title = if self.all_hours { "Hours" } else { "Hours that are not whole" };
            write!(f, "\n{title}\n{table}")?;
        }
        if more > 0 {
            writeln!(f, "  … and {more} more: --hours shows all")?;
        }
        write_findings(f, report)
    }
}

impl fmt::Display for StreamPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_verdicts(f, self.report)?;
        let mut by_agent = BTreeMap::<AgentId, Vec<_>>::new();
        for (id, account) in self.streams {
            by_agent.entry(account.agent).or_default().push((*id, *account));
        }
        for (agent, streams) in by_agent {
            write_agent(f, agent, &streams)?;
        }
        write_findings(f, self.report)
    }
}

fn write_agent(f: &mut fmt::Formatter<'_>, agent: AgentId, streams: &[(StreamId, &StreamAccount)]) -> fmt::Result {
    let Some((_, first)) = streams.first() else { return Ok(()) };
    let who = if first.internal { "Collector" } else { "Agent" };
    writeln!(f, "\n{who} {agent} on host {}, bound to {}", first.host, first.scopes.join(", "))?;
    let mut hours = BTreeMap::<u64, Hour>::new();
    for (id, account) in streams {
        write_stream(f, *id, account)?;
        for (start, hour) in &account.hours {
            hours.entry(*start).or_default().add(hour);
        }
    }
    let mut table = Table::new(hour_columns([("HOUR", Align::Left), ("BATCHES", Align::Right)]));
    for (start, hour) in span(&hours).into_iter().take(HOURS_MAX) {
        let batches = hour.batches.to_string();
        table.row(hour_cells([hour_name(start), batches], &hour));
    }
    if !table.is_empty() {
        write!(f, "\n{table}")?;
    }
    Ok(())
}

fn write_stream(f: &mut fmt::Formatter<'_>, id: StreamId, account: &StreamAccount) -> fmt::Result {
    writeln!(f, "\n  Stream {id}")?;
    write!(f, "    opened   {}, cause {}", format_time(account.opened), cause_text(account.cause))?;
    match &account.after {
        Some(after) => {
            let batch = after.k.map_or("its open, it has no batch".to_owned(), |k| format!("batch {k}"));
            writeln!(f, ", after {batch} of {}", after.stream)?;
        }
        None => writeln!(f)?,
    }
    match account.batches {
        Some((first, last)) => {
            let range = if first == last { format!("batch {first}") } else { format!("batches {first} to {last}") };
            let begun = if account.taken_up { ", begun on the word of a receipt for the one before" } else { "" };
            writeln!(
                f,
                "    sealed   {range}; heartbeats among them: {}; records so far: {}{begun}",
                account.heartbeats, account.next_seq
            )?;
        }
        None => writeln!(f, "    sealed   no batch that could be followed")?,
    }
    for missing in &account.missing {
        writeln!(f, "    MISSING  {missing}")?;
    }
    if account.batches.is_some() {
        let end = if account.closed { "closed in order" } else { "no close" };
        let (sealed, received) = (format_time(account.last_sealed), format_time(account.last_received));
        writeln!(f, "    last     sealed {sealed}, received {received}: {end}")?;
    }
    Ok(())
}

fn write_verdicts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    for (verdict, title, good) in [
        (Verdict::Integrity, "Integrity", "nothing was altered"),
        (Verdict::Completeness, "Completeness", "nothing is missing"),
        (Verdict::Time, "Times", "no date contradicts a receipt"),
    ] {
        match report.count_of(verdict) {
            0 => writeln!(f, "{title:<14}OK      {good}")?,
            1 => writeln!(f, "{title:<14}FAILED  1 finding")?,
            many => writeln!(f, "{title:<14}FAILED  {many} findings")?,
        }
    }
    Ok(())
}

/// Findings by check, what speaks against a verdict first.
fn write_findings(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    for (verdict, title) in [
        (Verdict::Integrity, "Altered"),
        (Verdict::Completeness, "Missing"),
        (Verdict::Time, "Dated wrongly"),
        (Verdict::Note, "Worth knowing"),
    ] {
        let mut by_check = BTreeMap::<Check, Vec<&Finding>>::new();
        for finding in report.findings.iter().filter(|finding| finding.verdict == verdict) {
            by_check.entry(finding.check).or_default().push(finding);
        }
        if by_check.is_empty() {
            continue;
        }
        writeln!(f, "\n{title}")?;
        for (check, findings) in by_check {
            writeln!(f, "  {} [{}]", check.says(), check.name())?;
            for Finding { place, detail, .. } in findings.iter().take(PLACES_MAX) {
                writeln!(f, "    at {}", short(place))?;
                if !detail.is_empty() {
                    writeln!(f, "       {}", short(detail))?;
                }
            }
            let more = (findings.len() as u64).saturating_sub(PLACES_MAX as u64) + report.more.get(&check).copied().unwrap_or(0);
            if more > 0 {
                writeln!(f, "    … and {more} more: -o json names them")?;
            }
            writeln!(f, "    → {}", advice(check))?;
        }
    }
    Ok(())
}

fn hour_columns(first: impl IntoIterator<Item = (&'static str, Align)>) -> Vec<(&'static str, Align)> {
    let rest = [
        ("EVENTS", Align::Right),
        ("REFUSED", Align::Right),
        ("REHOMED", Align::Right),
        ("SILENT", Align::Right),
        ("HOLES", Align::Right),
        ("REPORTED MISSING", Align::Left),
    ];
    first.into_iter().chain(rest).collect()
}

fn hour_cells(first: impl IntoIterator<Item = String>, hour: &Hour) -> Vec<String> {
    let number = |n: u64| if n == 0 { "-".to_owned() } else { n.to_string() };
    let mut gaps = String::new();
    for (cause, sum) in &hour.gaps {
        let comma = if gaps.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _infallible = match (sum.count, sum.unbounded) {
            (0, true) => write!(gaps, "{comma}{cause} ?"),
            (count, true) => write!(gaps, "{comma}{cause} {count}+?"),
            (count, false) => write!(gaps, "{comma}{cause} {count}"),
        };
    }
    let rest = [
        hour.events.to_string(),
        number(hour.refused),
        number(hour.rehomed),
        if hour.silent_s == 0 { "-".to_owned() } else { format!("{} s", hour.silent_s) },
        number(hour.holes.len() as u64),
        if gaps.is_empty() { "-".to_owned() } else { gaps },
    ];
    first.into_iter().chain(rest).collect()
}

/// Every hour from the first to the last, those without anything too.
fn span(hours: &BTreeMap<u64, Hour>) -> Vec<(u64, Hour)> {
    let (Some(first), Some(last)) = (hours.keys().next(), hours.keys().next_back()) else { return Vec::new() };
    // A damaged clock must not make a page of ten thousand years.
    const SPAN_MAX: u64 = 20 * 366 * 24;
    if (last - first) / HOUR > SPAN_MAX {
        return hours.iter().map(|(start, hour)| (*start, hour.clone())).collect();
    }
    (0..=(last - first) / HOUR)
        .map(|n| first + n * HOUR)
        .map(|start| (start, hours.get(&start).cloned().unwrap_or_default()))
        .collect()
}

/// `2026-01-15 12:00Z`.
fn hour_name(start: u64) -> String {
    let time = format_time(start);
    format!("{} {}Z", time.get(..10).unwrap_or_default(), time.get(11..16).unwrap_or_default())
}

/// Objects by their names, which are theirs alone: folders only repeat what the name says.
fn short(text: &str) -> String {
    let name = |word: &str| {
        let object = word.contains(".json.gz");
        word.rsplit('/').next().filter(|_| object).unwrap_or(word).to_owned()
    };
    text.split(' ').map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_stand_by_their_names_and_all_else_as_it_is() {
        assert_eq!(short("record 3 of audit/AWSLogs/a/b.json.gz: 1/2 x"), "record 3 of b.json.gz: 1/2 x");
    }
}
