//! The shape of `identity.json` and `receipt-keys.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::PublicKey;
use edgetrail_proto::identity::{AccountId, AgentId, Region};
use serde::{Deserialize, Serialize};

/// Who this agent is, and where its collector is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Chosen once, kept across joins.
    pub agent_id: AgentId,
    pub account: AccountId,
    pub region: Region,
    /// As the streams' binding names it.
    pub host: String,
    /// Of ARNs: `aws`, most often.
    pub partition: String,
    /// Ingest, `host:port`, in order of preference.
    pub endpoints: Vec<String>,
    /// More than one only for a gateway.
    pub scopes: Vec<Scope>,
    pub gateway: bool,
    /// Where the certificate is renewed: `https://host:port`.
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    pub account: AccountId,
    pub region: Region,
}

/// A receipt key as it is stored: everything in base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoredReceiptKey {
    public_key: String,
    not_before: u64,
    not_after: u64,
    ca_signature: String,
}

impl From<&ReceiptKey> for StoredReceiptKey {
    fn from(key: &ReceiptKey) -> Self {
        Self {
            public_key: BASE64.encode(key.public_key.0),
            not_before: key.not_before,
            not_after: key.not_after,
            ca_signature: BASE64.encode(&key.ca_signature),
        }
    }
}

impl TryFrom<StoredReceiptKey> for ReceiptKey {
    type Error = ();

    fn try_from(stored: StoredReceiptKey) -> Result<Self, ()> {
        let public_key = BASE64.decode(stored.public_key).map_err(drop)?;
        let ca_signature = BASE64.decode(stored.ca_signature).map_err(drop)?;
        let (not_before, not_after) = (stored.not_before, stored.not_after);
        Ok(Self { public_key: PublicKey(public_key.try_into().map_err(drop)?), not_before, not_after, ca_signature })
    }
}
