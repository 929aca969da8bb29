//! Refused logins: one record for each attempt, though PAM and the login program each report it, some twice.
//!
//! Reports of one attempt are of different kinds, come from one address for one account, and within [`ATTEMPT_MAX`]. A
//! report of a kind that this attempt already has is the next attempt. Bounded; forgetting one makes two records of
//! one attempt, never none.

use std::collections::VecDeque;

/// Who reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// PAM's USER_AUTH.
    Authentication,
    /// The program's USER_LOGIN.
    Login,
    /// sshd's first USER_LOGIN for an unknown user, before any attempt to authenticate.
    UnknownUser,
}

#[derive(Debug, Default)]
pub struct Attempts {
    open: VecDeque<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    account: String,
    address: String,
    /// Processes that reported: sshd's PAM child has another pid than its monitor.
    pids: Vec<u32>,
    reports: Vec<Report>,
    /// Unix seconds.
    time: u64,
}

/// pam_faildelay and pam_unix wait a few seconds between the two reports.
const ATTEMPT_MAX: u64 = 15;

const OPEN_MAX: usize = 256;

impl Attempts {
    /// The account that a process reported of late: its next report may name no more than an id.
    pub fn account_of(&self, pid: u32, address: &str, time: u64) -> Option<String> {
        let is_it = |attempt: &&Attempt| {
            attempt.address == address && attempt.pids.contains(&pid) && time.saturating_sub(attempt.time) <= ATTEMPT_MAX
        };
        self.open.iter().rev().find(is_it).map(|attempt| attempt.account.clone()).filter(|account| !account.is_empty())
    }

    /// Whether this report begins a new attempt. `is_unknown` where the account does not exist.
    pub fn begins(&mut self, account: &str, address: &str, pid: u32, report: Report, is_unknown: bool, time: u64) -> bool {
        self.open.retain(|attempt| time.saturating_sub(attempt.time) <= ATTEMPT_MAX);
        let open = self.open.iter_mut().find(|attempt| attempt.account == account && attempt.address == address);
        let is_first_of_process = open.as_ref().is_none_or(|attempt| !attempt.pids.contains(&pid));
        let report = match report {
            Report::Login if is_unknown && is_first_of_process => Report::UnknownUser,
            report => report,
        };
        if let Some(attempt) = open {
            let is_new = attempt.reports.contains(&report) || report == Report::UnknownUser;
            if is_new {
                attempt.reports.clear();
                attempt.pids.clear();
            }
            attempt.reports.push(report);
            attempt.pids.push(pid);
            attempt.time = time;
            return is_new;
        }
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        let (account, address) = (account.to_owned(), address.to_owned());
        self.open.push_back(Attempt { account, address, pids: vec![pid], reports: vec![report], time });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refused_attempt_counts_once() {
        let mut attempts = Attempts::default();
        let mut begins = |pid, report, unknown, time| attempts.begins("a", "192.0.2.1", pid, report, unknown, time);
        assert!(begins(2, Report::Authentication, false, 100));
        assert!(!begins(1, Report::Login, false, 102));
        assert!(begins(2, Report::Authentication, false, 104), "the second attempt of the same connection");
        assert!(!begins(1, Report::Login, false, 106));
        assert!(begins(1, Report::Login, false, 130), "a key that was refused");
        assert!(begins(1, Report::Login, false, 130), "another key");
    }

    #[test]
    fn an_unknown_user_is_one_attempt_though_sshd_says_it_twice() {
        let mut attempts = Attempts::default();
        let mut begins = |pid, report| attempts.begins("", "192.0.2.1", pid, report, true, 100);
        assert!(begins(1, Report::Login));
        assert!(!begins(1, Report::Login));
        assert!(begins(9, Report::Login), "another connection");
    }
}
