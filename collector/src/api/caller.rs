//! Who calls: the connection's other end, and the holder of the access key once the signature is verified.

use std::net::SocketAddr;

use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_proto::record::UserIdentity;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::authority::{Authority, Wanted, Who};
use super::fault::{Fault, Protocol};
use crate::control::{AccessKey, Principal};

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub tls: Option<TlsFacts>,
}

/// What was negotiated, in CloudTrail's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`
    pub version: String,
    /// `TLS_AES_256_GCM_SHA384`
    pub cipher_suite: String,
    /// `x25519`
    pub key_exchange: Option<String>,
}

/// A verified caller. Made only after its signature was.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    authority: Authority,
    pub access_key_id: String,
    pub account: AccountId,
    pub user_name: String,
    /// The credential scope's: the region that is called.
    pub region: Region,
    pub partition: String,
}

/// What the call itself says: where it is made, and how.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The credential scope's.
    pub region: Region,
    pub partition: &'a str,
    pub peer: &'a Peer,
    pub user_agent: Option<&'a str>,
}

impl TlsFacts {
    pub(super) fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let cipher_suite = format!("{:?}", connection.negotiated_cipher_suite()?.suite()).replace("TLS13_", "TLS_");
        let key_exchange = connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()).to_lowercase());
        Some(Self { version, cipher_suite, key_exchange })
    }

    pub(super) fn details(&self, host: Option<&str>) -> Value {
        let mut details = json!({ "tlsVersion": self.version, "cipherSuite": self.cipher_suite });
        if let Value::Object(members) = &mut details {
            members.extend(host.map(|host| ("clientProvidedHostHeader".to_owned(), host.into())));
            members.extend(self.key_exchange.as_ref().map(|group| ("keyExchange".to_owned(), group.as_str().into())));
        }
        details
    }
}

impl Caller {
    /// `now`: Unix seconds.
    pub(super) fn new(key: &AccessKey, principal: Option<Principal>, call: Call<'_>, now: u64) -> Self {
        let Call { region, partition, peer, user_agent } = call;
        let arn = arn(partition, &key.account, &key.name);
        let who = Who {
            arn: &arn,
            principal_id: &principal_id(&key.account, &key.name),
            account: key.account,
            user_name: &key.name,
            region: &region,
        };
        Self {
            authority: Authority::new(principal, &who, peer, user_agent, now),
            access_key_id: key.id.clone(),
            account: key.account,
            user_name: key.name.clone(),
            region,
            partition: partition.to_owned(),
        }
    }

    /// Whether its policies allow it.
    pub(super) fn may(&self, wanted: &Wanted, protocol: Protocol) -> Result<(), Fault> {
        self.authority.allows(wanted, protocol)
    }

    pub(super) fn arn(&self) -> String {
        arn(&self.partition, &self.account, &self.user_name)
    }

    /// In the form of IAM's unique ids, the same for one user name of one account.
    pub(super) fn principal_id(&self) -> String {
        principal_id(&self.account, &self.user_name)
    }

    pub(super) fn identity(&self) -> UserIdentity {
        UserIdentity {
            kind: Some("IAMUser".to_owned()),
            principal_id: Some(self.principal_id()),
            arn: Some(self.arn()),
            account_id: Some(self.account.to_string()),
            access_key_id: Some(self.access_key_id.clone()),
            user_name: Some(self.user_name.clone()),
            ..UserIdentity::default()
        }
    }
}

fn arn(partition: &str, account: &AccountId, user_name: &str) -> String {
    format!("arn:{partition}:iam::{account}:user/{user_name}")
}

fn principal_id(account: &AccountId, user_name: &str) -> String {
    let hash = Sha256::digest(format!("{account}/{user_name}"));
    let text = data_encoding::BASE32_NOPAD.encode(&hash);
    format!("AIDA{}", text.get(..17).unwrap_or_default())
}
