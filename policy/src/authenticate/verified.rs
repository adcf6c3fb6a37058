//! Remembers whom credentials were verified to be, so that each is verified once and not once a request.
//!
//! Bounded, and without the credentials: an entry is found by their HMAC under a key that this process made at its start.
//! What is remembered is never believed by itself; see [`crate::Epoch::stands`].

use std::{fmt, sync::Arc};

use envelope::Principal;
use quick_cache::sync::Cache;
use ring::hmac;

use super::key::NoRandom;

/// How many credentials are remembered.
const CAPACITY: usize = 16_384;

/// Whom credentials were verified to be.
pub(super) struct Verified {
    key: hmac::Key,
    principals: Cache<Print, Arc<Principal>>,
}

/// What is remembered of credentials.
pub(super) type Print = [u8; 32];

// === impl Verified ===

impl Verified {
    pub(super) fn new() -> Result<Self, NoRandom> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).map_err(|_| NoRandom)?;
        Ok(Self { key, principals: Cache::new(CAPACITY) })
    }

    /// Of the credentials as they came: those of another kind, or of another name, have another one.
    pub(super) fn print(&self, header: &[u8]) -> Print {
        let mut print = [0; 32];
        print.copy_from_slice(hmac::sign(&self.key, header).as_ref());
        print
    }

    pub(super) fn get(&self, print: &Print) -> Option<Arc<Principal>> {
        self.principals.get(print)
    }

    pub(super) fn put(&self, print: Print, principal: Arc<Principal>) {
        self.principals.insert(print, principal);
    }

    pub(super) fn forget(&self, print: &Print) {
        self.principals.remove(print);
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("principals", &self.principals.len()).finish_non_exhaustive()
    }
}
