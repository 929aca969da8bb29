//! Makes and signs the statement that begins a stream.
//!
//! The signature is by the certificate's key: who may open a stream is who joined. seed_0 is fresh for every stream and
//! leaves this module only inside the ratchet.

use std::path::{Path, PathBuf};

use edgetrail_link::outbox::Opening;
use edgetrail_link::tls;
use edgetrail_proto::chain::{Binding, Cause, Hash, Open, Predecessor, Ratchet, Seed};
use edgetrail_proto::identity::{AgentId, StreamId};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::enroll::{CERTIFICATE_FILE, KEY_FILE};

/// Who opens streams here. Key and certificate are read anew for every open: renewal replaces them.
#[derive(Clone, Debug)]
pub struct Opener {
    agent: AgentId,
    binding: Binding,
    /// Where join left `agent.key` and `agent.pem`.
    dir: PathBuf,
}

struct Credentials {
    /// Leaf first, DER.
    certificate_chain: Vec<Vec<u8>>,
    key: EcdsaKeyPair,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenerError {
    #[error("agent.key can't be read as an ECDSA P-256 key: join again")]
    Key,
    #[error("agent.pem can't be read as certificates: join again")]
    Certificate,
    #[error("the host has no randomness to give")]
    Random,
}

/// A stream that was opened a moment ago.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) open: Open,
    pub(super) opening: Opening,
    pub(super) ratchet: Ratchet,
}

impl Opener {
    /// Fails where the directory holds no usable credentials.
    pub fn new(agent: AgentId, binding: Binding, dir: &Path) -> Result<Self, OpenerError> {
        let opener = Self { agent, binding, dir: dir.to_owned() };
        opener.credentials()?;
        Ok(opener)
    }

    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// SHA-256 of the binding's bytes: a stream bound otherwise is not this agent's any more.
    pub(super) fn binding_hash(&self) -> Hash {
        self.binding.hash()
    }

    /// Whether a join came after this open: every join makes a fresh key, a renewal keeps it.
    pub(super) fn joined_since(&self, opening: &Opening) -> Result<bool, OpenerError> {
        let key = |chain: &[Vec<u8>]| {
            let leaf = CertificateDer::from_slice(chain.first().map_or(&[], Vec::as_slice));
            tls::public_key_of(&leaf).map_err(|_| OpenerError::Certificate)
        };
        Ok(key(&self.credentials()?.certificate_chain)? != key(&opening.certificate_chain)?)
    }

    /// Until when the certificate that would sign an open is valid, Unix nanoseconds.
    pub(super) fn valid_until(&self) -> Result<u64, OpenerError> {
        let chain = self.credentials()?.certificate_chain;
        let leaf = CertificateDer::from_slice(chain.first().map_or(&[], Vec::as_slice));
        let (_, not_after) = tls::validity_of(&leaf).map_err(|_| OpenerError::Certificate)?;
        Ok(u64::try_from(not_after).unwrap_or(0).saturating_mul(1_000_000_000))
    }

    fn credentials(&self) -> Result<Credentials, OpenerError> {
        let certificates = std::fs::read(self.dir.join(CERTIFICATE_FILE)).map_err(|_| OpenerError::Certificate)?;
        let certificate_chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&certificates)
            .map(|der| der.map(|der| der.as_ref().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| OpenerError::Certificate)?;
        if certificate_chain.is_empty() {
            return Err(OpenerError::Certificate);
        }
        let key = Zeroizing::new(std::fs::read(self.dir.join(KEY_FILE)).map_err(|_| OpenerError::Key)?);
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(&key).map_err(|_| OpenerError::Key)? else {
            return Err(OpenerError::Key);
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der(), &SystemRandom::new())
            .map_err(|_| OpenerError::Key)?;
        Ok(Credentials { certificate_chain, key })
    }

    /// A new stream with a fresh seed. Nothing is stored.
    pub(super) fn open(&self, cause: Cause, predecessor: Option<Predecessor>, t_opened: u64) -> Result<Opened, OpenerError> {
        let credentials = self.credentials()?;
        let stream = StreamId::from_bytes(*uuid::Uuid::now_v7().as_bytes());
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| OpenerError::Random)?;
        let ratchet = Ratchet::new(stream, 0, Seed(seed));
        let open = Open {
            stream,
            agent: self.agent,
            first_key: ratchet.public_key(),
            predecessor,
            cause,
            t_opened,
            binding: self.binding_hash(),
            certificate: credentials.leaf_hash(),
        };
        let bytes = open.encode();
        let signature = credentials.key.sign(&SystemRandom::new(), &bytes).map_err(|_| OpenerError::Random)?;
        let opening = Opening {
            open: bytes.to_vec(),
            binding: self.binding.to_bytes(),
            signature: signature.as_ref().to_vec(),
            certificate_chain: credentials.certificate_chain,
        };
        Ok(Opened { open, opening, ratchet })
    }
}

impl Credentials {
    fn leaf_hash(&self) -> Hash {
        self.certificate_chain.first().map_or(Hash::ZERO, |leaf| Hash::of(leaf))
    }
}
