//! Records what operators do by commands in the internal stream, as the collector's other calls are.

use edgetrail_proto::chain::event_id;
use edgetrail_proto::record::{EventCategory, EventType, Record, SessionContext, SessionIssuer, UserIdentity, format_time};
use tokio_util::sync::CancellationToken;

use crate::control::{Act, Control, ControlError, Operator, User};
use crate::ingest::EVENT_SOURCE;
use crate::internal::{Home, Internal, SOURCE};

/// The error's code: a command has no codes of its own, the text says what failed.
const FAILED: &str = "Failed";

/// What the records say of where it was done.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) home: Home,
    pub(super) partition: String,
}

/// Until stopped, and once more then: what was done while the collector ran is in its stream before that is closed.
pub(super) async fn record(
    control: Control,
    internal: Internal,
    place: Place,
    stop: CancellationToken,
) -> Result<(), ControlError> {
    let mut changes = control.changes();
    loop {
        record_all(&control, &internal, &place).await?;
        tokio::select! {
            () = stop.cancelled() => return record_all(&control, &internal, &place).await,
            changed = changes.changed() => if changed.is_err() {
                return Ok(());
            },
        }
    }
}

async fn record_all(control: &Control, internal: &Internal, place: &Place) -> Result<(), ControlError> {
    loop {
        let acts = blocking(control, Control::acts).await?;
        if acts.is_empty() {
            return Ok(());
        }
        for act in acts {
            let mut record = place.record(&act);
            record.event_id = event_id(internal.agent(), SOURCE, &act.position, 0);
            if let Err(error) = internal.record(record).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    act = act.name,
                    "what an operator did could not be recorded"
                );
                return Ok(());
            }
            // From here on it is in the ledger; a crash before this is done records it again, under the same eventID.
            blocking(control, move |control| control.recorded(&act)).await?;
        }
    }
}

async fn blocking<T: Send + 'static>(
    control: &Control,
    call: impl FnOnce(&Control) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    let control = control.clone();
    // A panic inside has been reported; what it was about is tried again with the next change.
    tokio::task::spawn_blocking(move || call(&control)).await.unwrap_or(Err(ControlError::Damaged { what: "list of acts" }))
}

impl Place {
    fn record(&self, act: &Act) -> Record {
        let Home { account, region, .. } = &self.home;
        Record {
            event_time: format_time(act.time_ns),
            user_identity: self.identity(&act.operator),
            event_source: EVENT_SOURCE.to_owned(),
            event_name: act.name.clone(),
            aws_region: region.to_string(),
            source_ip_address: act.operator.host.clone(),
            user_agent: Some(concat!("edgetrail-collector/", env!("CARGO_PKG_VERSION")).to_owned()),
            error_code: act.error.as_ref().map(|_| FAILED.to_owned()),
            error_message: act.error.clone(),
            request_parameters: Some(act.parameters.clone()),
            read_only: Some(false),
            event_type: EventType::AwsApiCall,
            management_event: Some(true),
            event_category: EventCategory::Management,
            recipient_account_id: account.to_string(),
            ..Record::default()
        }
    }

    /// The human first: who logged in, and as whom the command ran. docs/events.md.
    fn identity(&self, operator: &Operator) -> UserIdentity {
        let Operator { user, login, host } = operator;
        let arn = |rest: String| format!("arn:{}:host:{}:{}:{host}/{rest}", self.partition, self.home.region, self.home.account);
        let account_id = Some(self.home.account.to_string());
        let kind = |user: &User| Some(if user.uid == 0 { "Root" } else { "IAMUser" }.to_owned());
        let principal_id = Some(user.uid.to_string());
        match login {
            Some(login) if login.uid == user.uid => UserIdentity {
                kind: kind(user),
                principal_id,
                arn: Some(arn(format!("user/{}", user.name))),
                account_id,
                user_name: Some(user.name.clone()),
                ..UserIdentity::default()
            },
            Some(login) => {
                let issuer = SessionIssuer {
                    kind: kind(login),
                    principal_id: Some(login.uid.to_string()),
                    arn: Some(arn(format!("user/{}", login.name))),
                    account_id: account_id.clone(),
                    user_name: Some(login.name.clone()),
                    ..SessionIssuer::default()
                };
                UserIdentity {
                    kind: Some("AssumedRole".to_owned()),
                    principal_id: Some(format!("{}:{}", user.uid, login.name)),
                    arn: Some(arn(format!("assumed-role/{}/{}", user.name, login.name))),
                    account_id,
                    session_context: Some(SessionContext { session_issuer: Some(issuer), ..SessionContext::default() }),
                    ..UserIdentity::default()
                }
            }
            // No login stands behind it: a timer, a container, an installer.
            None => UserIdentity {
                kind: Some("AWSService".to_owned()),
                principal_id,
                account_id,
                invoked_by: Some("edgetrail-collector.linux".to_owned()),
                ..UserIdentity::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: (u32, &str), login: Option<(u32, &str)>) -> UserIdentity {
        let of = |(uid, name): (u32, &str)| User { uid, name: name.to_owned() };
        let operator = Operator { user: of(user), login: login.map(of), host: "hub-1".to_owned() };
        let (account, region) = ("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap());
        let place = Place { home: Home { account, region, host: "hub-1".to_owned() }, partition: "aws".to_owned() };
        place.identity(&operator)
    }

    #[test]
    fn the_human_behind_sudo_is_named_and_nobody_is_guessed() {
        let alice_as_root = identity((0, "root"), Some((1000, "alice")));
        assert_eq!(alice_as_root.kind.as_deref(), Some("AssumedRole"));
        assert_eq!(alice_as_root.principal_id.as_deref(), Some("0:alice"));
        assert_eq!(alice_as_root.arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:hub-1/assumed-role/root/alice"));
        let issuer = alice_as_root.session_context.unwrap().session_issuer.unwrap();
        assert_eq!((issuer.kind.as_deref(), issuer.user_name.as_deref()), (Some("IAMUser"), Some("alice")));
        assert_eq!(identity((0, "root"), Some((0, "root"))).kind.as_deref(), Some("Root"));
        let alone = identity((0, "root"), None);
        assert_eq!((alone.kind.as_deref(), alone.user_name), (Some("AWSService"), None));
    }
}
