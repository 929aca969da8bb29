//! What the product makes of a user's acts: a collector, an agent that captures, and the trail as the oracle.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::succeed;
use edgetrail_tests::wait;
use serde_json::Value;

pub(crate) struct Acts {
    deployment: RefCell<Deployment>,
    dir: PathBuf,
}

impl Acts {
    /// An agent with these settings, capturing.
    pub(crate) fn captured_by(settings: &str) -> Self {
        let deployment = Deployment::with_settings(settings);
        wait::until("the agent to listen to the kernel", Duration::from_secs(20), || {
            deployment.agent_printed(0).contains("listening to the kernel's audit records").then_some(())
        });
        let dir = deployment.dir().to_owned();
        Self { deployment: RefCell::new(deployment), dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until look-up, through the real AWS CLI, finds a record of this name that tells of the user.
    pub(crate) fn wait_for(&self, name: &str, user: &str) {
        wait::until(&format!("{name} of {user}"), Duration::from_secs(30), || self.has(name, user).then_some(()));
    }

    /// Waits until the trail holds a record of this name that tells of `mark`; look-up shows no data events.
    pub(crate) fn wait_for_delivered(&self, name: &str, mark: &str) {
        let trail = self.deployment.borrow().trail();
        let is_it = |record: &Value| record["eventName"] == name && record.to_string().contains(mark);
        wait::until(&format!("{name} of {mark}"), Duration::from_secs(30), || {
            delivered::records(&trail).iter().any(|(_, record)| is_it(record)).then_some(())
        });
    }

    /// Whether look-up finds one now.
    pub(crate) fn has(&self, name: &str, user: &str) -> bool {
        let attribute = format!("AttributeKey=EventName,AttributeValue={name}");
        let answer = self.deployment.borrow().aws().json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
        let mut events = answer["Events"].as_array().into_iter().flatten();
        events.any(|event| event["CloudTrailEvent"].to_string().contains(user))
    }

    /// Waits until the kernel lists a rule that holds this text.
    pub(crate) fn wait_for_rule(&self, part: &str) {
        wait::until(&format!("a rule of {part}"), Duration::from_secs(60), || {
            let listed = succeed(Command::new("auditctl").arg("-l"));
            String::from_utf8_lossy(&listed.stdout).contains(part).then_some(())
        });
    }

    /// How many records selection turned away, as `status` says.
    pub(crate) fn refused(&self) -> u64 {
        let read = || self.deployment.borrow().status(0).pointer("/buffer/counters/refused").and_then(Value::as_u64);
        // The counters are those of the last sealed batch.
        wait::until("the count of refused records", Duration::from_secs(10), read)
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> u32 {
        self.deployment.borrow().agent_id(0)
    }

    /// Stops agent and trail in order, then reads all that was delivered.
    pub(crate) fn all_delivered(&self) -> Vec<Value> {
        let mut deployment = self.deployment.borrow_mut();
        deployment.stop_agents_and_logging();
        delivered::records(&deployment.trail()).into_iter().map(|(_, record)| record).collect()
    }

    /// The same, of what tells of the user; nothing may be lost.
    pub(crate) fn delivered(&self, user: &str) -> Vec<Value> {
        let all = self.all_delivered();
        let gaps: Vec<&Value> = named(&all, "ReportGap").collect();
        assert!(gaps.is_empty(), "nothing was lost here: {gaps:#?}");
        all.into_iter().filter(|record| record.to_string().contains(user)).collect()
    }
}

pub(crate) fn named<'a>(records: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["eventName"] == name)
}

/// The human, whether acting as itself or as another.
pub(crate) fn login_user(record: &Value) -> &str {
    let identity = &record["userIdentity"];
    let issuer = identity.pointer("/sessionContext/sessionIssuer/userName");
    issuer.or(identity.get("userName")).and_then(Value::as_str).unwrap_or_default()
}
