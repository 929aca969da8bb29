//! Who calls: the connection's other end, and the holder of the access key once the signature is verified.

use std::net::SocketAddr;

use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_proto::record::UserIdentity;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::control::AccessKey;

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
    pub access_key_id: String,
    pub account: AccountId,
    pub user_name: String,
    /// The credential scope's: the region that is called.
    pub region: Region,
    pub partition: String,
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
    pub(super) fn new(key: &AccessKey, region: Region, partition: &str) -> Self {
        Self {
            access_key_id: key.id.clone(),
            account: key.account,
            user_name: key.name.clone(),
            region,
            partition: partition.to_owned(),
        }
    }

    pub(super) fn arn(&self) -> String {
        format!("arn:{}:iam::{}:user/{}", self.partition, self.account, self.user_name)
    }

    /// In the form of IAM's unique ids, the same for one user name of one account.
    pub(super) fn principal_id(&self) -> String {
        let hash = Sha256::digest(format!("{}/{}", self.account, self.user_name));
        let text = data_encoding::BASE32_NOPAD.encode(&hash);
        format!("AIDA{}", text.get(..17).unwrap_or_default())
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
