//! Makes and signs the statement that begins a stream.
//!
//! The signature is by the certificate's key: who may open a stream is who joined. seed_0 is fresh for every stream and
//! leaves this module only inside the ratchet.

use edgetrail_link::outbox::Opening;
use edgetrail_proto::chain::{Binding, Cause, Hash, Open, Predecessor, Ratchet, Seed};
use edgetrail_proto::identity::{AgentId, StreamId};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Who opens streams here: fixed from join to re-join.
pub struct Opener {
    agent: AgentId,
    binding: Binding,
    /// Leaf first, DER.
    certificate_chain: Vec<Vec<u8>>,
    key: EcdsaKeyPair,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenerError {
    #[error("agent.key holds no ECDSA P-256 key: join again")]
    Key,
    #[error("agent.pem holds no certificate: join again")]
    Certificate,
    #[error("the host has no randomness to give")]
    Random,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("agent", &self.agent).field("binding", &self.binding).finish_non_exhaustive()
    }
}

/// A stream that was opened a moment ago.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) open: Open,
    pub(super) opening: Opening,
    pub(super) ratchet: Ratchet,
}

impl Opener {
    /// `key` and `certificates` in PEM, as join left them: PKCS#8, leaf first.
    pub fn new(agent: AgentId, binding: Binding, key: &[u8], certificates: &[u8]) -> Result<Self, OpenerError> {
        let certificate_chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(certificates)
            .map(|der| der.map(|der| der.as_ref().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| OpenerError::Certificate)?;
        if certificate_chain.is_empty() {
            return Err(OpenerError::Certificate);
        }
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(key).map_err(|_| OpenerError::Key)? else {
            return Err(OpenerError::Key);
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der(), &SystemRandom::new())
            .map_err(|_| OpenerError::Key)?;
        Ok(Self { agent, binding, certificate_chain, key })
    }

    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// SHA-256 of the binding's bytes: a stream bound otherwise is not this agent's any more.
    pub(super) fn binding_hash(&self) -> Hash {
        self.binding.hash()
    }

    /// SHA-256 of the leaf certificate.
    pub(super) fn certificate_hash(&self) -> Hash {
        self.certificate_chain.first().map_or(Hash::ZERO, |leaf| Hash::of(leaf))
    }

    /// A new stream with a fresh seed. Nothing is stored.
    pub(super) fn open(&self, cause: Cause, predecessor: Option<Predecessor>, t_opened: u64) -> Result<Opened, OpenerError> {
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
            certificate: self.certificate_hash(),
        };
        let bytes = open.encode();
        let signature = self.key.sign(&SystemRandom::new(), &bytes).map_err(|_| OpenerError::Random)?;
        let opening = Opening {
            open: bytes.to_vec(),
            binding: self.binding.to_bytes(),
            signature: signature.as_ref().to_vec(),
            certificate_chain: self.certificate_chain.clone(),
        };
        Ok(Opened { open, opening, ratchet })
    }
}
