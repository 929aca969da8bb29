//! Gaps over batches that collectors lost: each is a record of the internal stream, under the stream's own account and
//! region, and each is made once.
//!
//! The ledger says what is not reported yet; the record's eventID follows from what is missing, so that a crash between
//! the record and its mark repeats the very same event.

use std::sync::Arc;

use edgetrail_proto::chain::event_id;
use edgetrail_proto::facets::{GAP_NAME, GAP_SOURCE};
use edgetrail_proto::record::{EventCategory, EventType, GapCause, Record, UserIdentity, format_time};
use serde_json::json;

use crate::internal::{Internal, InternalError, Restored};
use crate::ledger::{CommitError, Ledger, LedgerError, Missing, StreamInfo, Why};
use crate::pki::{Pki, PkiError};

/// Reports read at once.
const REPORTS_MAX: u32 = 256;

/// Why a loss could not be reported now; it stays on record and is reported later.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    #[error("the ledger can't be read")]
    Ledger(#[from] LedgerError),
    #[error("no new receipt key can be made")]
    Pki(#[from] PkiError),
    #[error("the report can't be recorded")]
    Internal(#[from] InternalError),
    #[error("the ledger does not take the report's mark")]
    Commit(#[from] CommitError),
}

/// Reports every loss that is not reported yet: after each take-up, after a relay was forgotten, and at start.
pub async fn report_losses(ledger: &Ledger, internal: &Internal) -> Result<(), LossError> {
    loop {
        let from = ledger.clone();
        let losses = tokio::task::spawn_blocking(move || from.unreported(REPORTS_MAX)).await;
        let losses = losses.map_err(|_panicked| LedgerError::Stopped)??;
        if losses.is_empty() {
            return Ok(());
        }
        for missing in losses {
            tracing::error!(
                stream = %missing.stream, agent = %missing.info.agent, from = missing.from, to = missing.to,
                records = missing.records, why = missing.why.cause(), "batches are missing for good: a gap reports them"
            );
            internal.gap(gap(&missing), missing.records.unwrap_or(0)).await?;
            // From here on a crash reports nothing twice.
            ledger.reported(missing.id).await?;
        }
    }
}

/// What a collector does first that finds its ledger to be an older copy. Before anything is signed: an index that was
/// given out before must not come again under the same key.
pub async fn go_on_restored(ledger: &Ledger, pki: &Pki, restored: Option<Restored>) -> Result<(), LossError> {
    let Some(Restored { stream, to }) = restored else { return Ok(()) };
    let why = Why::CollectorLost { signer: ledger.signs_as() };
    tracing::error!(%stream, to, "the ledger is an older copy: it goes on under a new receipt key");
    ledger.sign_with(Arc::new(pki.renew_receipt_key()?));
    ledger.lose(stream, to, why).await?;
    Ok(())
}

impl Why {
    /// As a gap names it. docs/protocol.md §9.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::CollectorLost { .. } => GapCause::CollectorLost.as_str(),
            Self::NotReceived { .. } => GapCause::NotReceived.as_str(),
        }
    }
}

fn gap(missing: &Missing) -> Record {
    let Missing { stream, info, from, to, records, why, since, until, .. } = missing;
    let batches = format!("batches {from} to {to} of stream {stream} of agent {}", info.agent);
    let evidence = match why {
        Why::CollectorLost { signer } => format!("{batches}: a receipt by key {signer} says that a collector held them"),
        Why::NotReceived { .. } => {
            format!("{batches}: a later open of the agent names the last of them, and the agent does not hold them")
        }
    };
    let (account, region) = scope(info);
    let position = format!("{stream}:{from}:{to}");
    Record {
        user_identity: UserIdentity {
            kind: Some("AWSService".to_owned()),
            account_id: Some(account.clone()),
            invoked_by: Some(super::EVENT_SOURCE.to_owned()),
            ..UserIdentity::default()
        },
        event_source: GAP_SOURCE.to_owned(),
        event_name: GAP_NAME.to_owned(),
        event_id: event_id(info.agent, "collector-gap", &position, 0),
        aws_region: region,
        source_ip_address: info.binding.host().to_owned(),
        user_agent: Some(concat!("edgetrail-collector/", env!("CARGO_PKG_VERSION")).to_owned()),
        request_parameters: Some(json!({
            "cause": why.cause(), "count": records, "exact": records.is_some(), "evidence": evidence,
            "from": format_time(*since), "to": format_time(*until),
            "stream": stream.to_string(), "fromBatch": from, "toBatch": to,
        })),
        additional_event_data: serde_json::Map::from_iter([(
            "edgetrail".to_owned(),
            json!({ "agent": info.agent.to_string(), "host": info.binding.host() }),
        )])
        .into(),
        read_only: Some(false),
        event_type: EventType::AwsServiceEvent,
        management_event: Some(true),
        event_category: EventCategory::Management,
        recipient_account_id: account,
        ..Record::default()
    }
}

/// Where the stream's events belong; of several, the first.
fn scope(info: &StreamInfo) -> (String, String) {
    let scope = info.binding.scopes().next().map(|(account, region)| (account.to_string(), region.to_string()));
    scope.unwrap_or_default()
}
