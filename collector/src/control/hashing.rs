//! Hashes of tokens' secrets: Argon2id, in one piece of memory.
//!
//! A hash needs its memory at once and for milliseconds. It is kept from hash to hash and used by one at a time: many
//! agents that join, or many guesses, take no more memory than one. The secret has 160 random bits, so the hash need not
//! be made slow; it keeps a stolen `control.sqlite` from giving tokens.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher, Version};

use super::ControlError;

/// Memory in KiB, passes, lanes. Source: RFC 9106 §4 leaves them to the secret's strength.
const MEMORY_KIB: u32 = 8 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Most memory that a stored hash may ask for: tokens of an earlier version took 19 MiB.
const MEMORY_KIB_MAX: u32 = 32 * 1024;

/// The memory; a cheap handle.
#[derive(Clone, Default)]
pub(super) struct Hashing(Arc<Mutex<Vec<Block>>>);

impl Hashing {
    /// The hash in PHC form, with its salt and parameters.
    pub(super) fn hash(&self, secret: &[u8], salt: &[u8]) -> Result<String, ControlError> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| ControlError::Hash)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(argon2.hash_password_with_salt(secret, salt).map_err(|_| ControlError::Hash)?.to_string())
    }

    /// Whether the stored hash is this secret's.
    pub(super) fn is_of(&self, stored: &str, secret: &[u8]) -> bool {
        self.verify(stored, secret).unwrap_or(false)
    }

    fn verify(&self, stored: &str, secret: &[u8]) -> Option<bool> {
        let stored = PasswordHash::new(stored).ok()?;
        let params = Params::try_from(&stored).ok()?;
        if params.m_cost() > MEMORY_KIB_MAX || stored.algorithm.as_str() != "argon2id" {
            return None;
        }
        let (salt, expected) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
        let mut found = vec![0; expected.len()];
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < params.block_count() {
            memory.resize(params.block_count(), Block::new());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into_with_memory(secret, salt.as_ref(), &mut found, memory.as_mut_slice()).ok()?;
        // Of hashes, not of secrets: how many bytes agree tells nobody anything.
        Some(found == expected.as_bytes())
    }
}
