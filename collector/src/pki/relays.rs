//! Relays enroll: a relay's token becomes its certificates and the statement on its receipt key.
//!
//! The token gives the name, and nobody but an operator makes such tokens. A relay is reachable under DNS names and
//! addresses of its own: none that is home's, none that is another relay's, so that no relay stands in for another
//! collector. Names of the loopback are nobody's. Its receipt key is its own alone, so that forgetting a relay forgets
//! nobody else.

use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::renewal;
use edgetrail_link::tls::PeerIdentity;
use edgetrail_link::wire::{JoinRelayRequest, JoinRelayResponse, RenewRelayRequest, RenewRelayResponse};
use edgetrail_proto::chain::{Hash, PublicKey};
use edgetrail_proto::identity::{RelayIdentity, RelayName};
use rustls::pki_types::CertificateDer;

use super::authority::Request;
use super::enrollment::{EnrollmentError, Inner, VERSION_BYTES_MAX, serial_of, unix_ns};
use super::receipt_key::{CLOCK_TOLERANCE, LIFE};
use crate::control::Relay;

/// Names of one relay.
const NAMES_MAX: usize = 16;

/// Longest DNS name. Source: RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;

/// Receipt keys of one relay, former ones included: one for each time that it was set up anew.
const KEYS_MAX: usize = 64;

/// What a relay asks to be known by.
struct Asked<'a> {
    request: Request,
    receipt_key: PublicKey,
    names: &'a [String],
    version: &'a str,
}

impl Inner {
    pub(super) fn join_relay(&self, request: &JoinRelayRequest, now: SystemTime) -> Result<JoinRelayResponse, EnrollmentError> {
        // Everything that can be wrong whatever the token is found before it is spent.
        let asked = Asked {
            request: self.authority.check_request(&request.csr).map_err(EnrollmentError::Issue)?,
            receipt_key: public_key(&request.receipt_public_key)?,
            names: &request.names,
            version: &request.version,
        };
        self.check_names(asked.names)?;
        let name = self.control.redeem_relay_token(&request.token, unix_ns(now)).map_err(EnrollmentError::Control)?;
        let known = self.control.relay(&name).map_err(EnrollmentError::Control)?;
        // Receipts under a forgotten key bridge what they vouch for at once; a relay that is waited for again needs another.
        if let Some(known) = known.filter(|known| known.forgotten_ns.is_some())
            && known.receipt_keys.iter().any(|key| key.public_key == asked.receipt_key)
        {
            return Err(EnrollmentError::ForgottenKey { name });
        }
        let (chain, server_chain) = self.put_relay(&name, &asked, unix_ns(now), None, now)?;
        tracing::info!(relay = %name, "relay joined");
        Ok(JoinRelayResponse {
            credentials: Some(self.credentials(&chain)),
            name: name.to_string(),
            partition: self.options.partition.clone(),
            ingest_endpoints: self.options.ingest_endpoints.clone(),
            server_chain: encoded(&server_chain),
        })
    }

    pub(super) fn renew_relay(
        &self,
        request: &RenewRelayRequest,
        now: SystemTime,
    ) -> Result<RenewRelayResponse, EnrollmentError> {
        let RenewRelayRequest { csr, certificate, time, receipt_public_key, names, version, signature } = request;
        let receipt_key = public_key(receipt_public_key)?;
        self.check_names(names)?;
        let message = renewal::relay_message(csr, certificate, *time, &receipt_key.0, names);
        let renewal = self.check_renewal(csr, certificate, &message, signature, now)?;
        let PeerIdentity::Relay(RelayIdentity { name, .. }) = renewal.identity else {
            return Err(EnrollmentError::Malformed("certificate: it is no relay's"));
        };
        let known = self.control.relay(&name).map_err(EnrollmentError::Control)?;
        let current = known.filter(|known| known.revoked_ns.is_none() && renewal.issued >= known.joined_ns / 1_000_000_000);
        let Some(known) = current else { return Err(EnrollmentError::SupersededRelay { name }) };
        let asked = Asked { request: renewal.request, receipt_key, names, version };
        let (chain, server_chain) = self.put_relay(&name, &asked, known.joined_ns, known.forgotten_ns, now)?;
        tracing::info!(relay = %name, "relay's certificates renewed");
        Ok(RenewRelayResponse { credentials: Some(self.credentials(&chain)), server_chain: encoded(&server_chain) })
    }

    /// Issues what is asked for and puts the relay down. Its receipt key is trusted from here on, by all of this home.
    fn put_relay(
        &self,
        name: &RelayName,
        asked: &Asked<'_>,
        joined_ns: u64,
        forgotten_ns: Option<u64>,
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), EnrollmentError> {
        self.check_owned(name, asked)?;
        let identity = RelayIdentity { trust_domain: self.authority.trust_domain().clone(), name: name.clone() };
        let issued = self.authority.issue_relay(&asked.request, &identity, asked.names, now);
        let (chain, server_chain) = issued.map_err(EnrollmentError::Issue)?;
        let (not_before, not_after) = (unix_ns(now.checked_sub(CLOCK_TOLERANCE).unwrap_or(now)), unix_ns(now + LIFE));
        let relay = Relay {
            name: name.clone(),
            names: asked.names.to_vec(),
            version: asked.version.chars().filter(|c| !c.is_control()).take(VERSION_BYTES_MAX).collect(),
            certificate_serial: chain.first().map(serial_of).unwrap_or_default(),
            certificate_expires_ns: unix_ns(now + self.authority.certificate_life()),
            joined_ns,
            revoked_ns: None,
            forgotten_ns,
            last_seen_ns: None,
            connected_ns: None,
            standing: None,
            receipt_keys: vec![ReceiptKey { public_key: asked.receipt_key, not_before, not_after, ca_signature: Vec::new() }],
        };
        self.control.upsert_relay(&relay).map_err(EnrollmentError::Control)?;
        self.pki.trust_relays(&self.control.watch_relays()).map_err(|error| EnrollmentError::Pki(Box::new(error)))?;
        Ok((chain, server_chain))
    }

    /// Whether these can be any relay's: DNS names and addresses, none of them home's.
    fn check_names(&self, names: &[String]) -> Result<(), EnrollmentError> {
        let good = |name: &String| name.parse::<IpAddr>().is_ok() || is_dns_name(name);
        if names.len() > NAMES_MAX || !names.iter().all(good) {
            return Err(EnrollmentError::Malformed("names: give at most 16 lower-case DNS names or addresses"));
        }
        match names.iter().find(|name| !is_loopback(name) && self.pki.is_own_name(name)) {
            Some(name) => Err(EnrollmentError::NameTaken { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Whether names and receipt key are no other collector's.
    fn check_owned(&self, name: &RelayName, asked: &Asked<'_>) -> Result<(), EnrollmentError> {
        if self.pki.own_receipt_keys().contains(&Hash::of(&asked.receipt_key.0)) {
            return Err(EnrollmentError::KeyTaken);
        }
        for relay in self.control.relays().map_err(EnrollmentError::Control)? {
            let holds_key = relay.receipt_keys.iter().any(|key| key.public_key == asked.receipt_key);
            if &relay.name == name {
                if relay.receipt_keys.len() >= KEYS_MAX && !holds_key {
                    return Err(EnrollmentError::TooManyKeys { name: name.clone() });
                }
                continue;
            }
            if holds_key {
                return Err(EnrollmentError::KeyTaken);
            }
            if let Some(taken) = asked.names.iter().find(|asked| !is_loopback(asked) && relay.names.contains(asked)) {
                return Err(EnrollmentError::NameTaken { name: taken.clone() });
            }
        }
        Ok(())
    }
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, EnrollmentError> {
    bytes.try_into().map(PublicKey).map_err(|_| EnrollmentError::Malformed("receipt key: it has 32 bytes"))
}

fn encoded(chain: &[CertificateDer<'_>]) -> Vec<Bytes> {
    chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect()
}

/// Lower-case labels, no wildcard.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label)
}

/// A name that means the very host which uses it.
fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
