//! Passwords: argon2id, on threads that nothing else waits for, and bounded from every side.
//!
//! One verification costs about 20 ms and 19 MiB by design. So at most [`AT_A_TIME`] run, at most [`WAITING`] wait, and an
//! address that was wrong too often waits before it is listened to again: guessing costs the guesser and not the gateway.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use envelope::{RejectKind, Rejection};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use yaml::Secret;

use super::{DECIDED_BY, key::NoRandom};

/// Verifications that run at a time, on threads of their own.
const AT_A_TIME: usize = 2;
/// Verifications that may wait for one of these.
const WAITING: usize = 64;
/// Wrong passwords that an address may send at once.
const BURST: u32 = 10;
/// How long it takes until an address may send one more.
const EVERY: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const ADDRESSES: usize = 65_536;
/// The longest password, in bytes.
pub(crate) const MAX_PASSWORD: usize = 1_024;
/// The most memory that a stored hash may ask for, in KiB.
const MAX_MEMORY: u32 = 262_144;
/// The most rounds that a stored hash may ask for.
const MAX_ROUNDS: u32 = 16;
const SALT: usize = 16;

/// The stored hash of a password, in the PHC string format.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(Arc<str>);

/// Why a password can't be stored, or a stored one not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Longer than a password may be.
    #[error("longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// Shorter than a password may be.
    #[error("shorter than 8 characters")]
    TooShort,
    /// No argon2id hash in the PHC string format.
    #[error("no argon2id hash as openmesh user writes it: $argon2id$v=19$m=...,t=...,p=...$salt$hash")]
    NotAHash,
    /// It would cost too much to verify.
    #[error("the hash asks for more than {MAX_MEMORY} KiB or {MAX_ROUNDS} rounds")]
    TooDear,
    /// No random bytes from the operating system.
    #[error("the operating system gave no random bytes")]
    NoRandom,
}

/// Verifies passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    wrong: Mutex<Wrong>,
    /// Verified where there is no such user, so that it takes as long as where there is one.
    nobody: StoredPassword,
}

/// What addresses have sent of wrong passwords.
#[derive(Debug, Default)]
struct Wrong {
    tries: HashMap<IpAddr, Tries>,
    /// When those that stopped were last forgotten: to look through all of them is not done for each address.
    cleared: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    spent: u32,
    since: Instant,
}

// === impl StoredPassword ===

impl StoredPassword {
    /// Hashes a new password.
    pub fn hash(password: &Secret) -> Result<Self, PasswordError> {
        let text = password.expose();
        if text.len() > MAX_PASSWORD {
            return Err(PasswordError::TooLong);
        }
        if text.chars().count() < 8 {
            return Err(PasswordError::TooShort);
        }
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| NoRandom)?;
        let hash = Argon2::default().hash_password_with_salt(text.as_bytes(), &salt);
        Ok(Self(hash.map_err(|_| PasswordError::NotAHash)?.to_string().into()))
    }

    /// Takes a stored hash; refuses what could not be verified, or only at too high a cost.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let hash = PasswordHash::new(text).map_err(|_| PasswordError::NotAHash)?;
        let sound = hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() && hash.salt.is_some();
        let params = Params::try_from(&hash).map_err(|_| PasswordError::NotAHash)?;
        match () {
            () if !sound => Err(PasswordError::NotAHash),
            () if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_ROUNDS => Err(PasswordError::TooDear),
            () => Ok(Self(text.into())),
        }
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells hashes apart.
    pub(crate) fn version(&self) -> u64 {
        Sha256::digest(self.0.as_bytes()).iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte))
    }

    /// Takes long, by design.
    fn is_of(&self, password: &[u8]) -> bool {
        PasswordHash::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

impl std::fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredPassword(***)")
    }
}

impl From<NoRandom> for PasswordError {
    fn from(_: NoRandom) -> Self {
        Self::NoRandom
    }
}

// === impl Passwords ===

impl Passwords {
    pub(crate) fn new() -> Self {
        // of a password that nobody has: 43 characters of the salt's alphabet, in place of a hash
        let nobody = "$argon2id$v=19$m=19456,t=2,p=1$b3Blbm1lc2g6bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        Self {
            running: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            wrong: Mutex::default(),
            nobody: StoredPassword(nobody.into()),
        }
    }

    /// Whether `password` is the stored one; never if none is stored. A Retry if it can't be told now.
    pub(crate) async fn verify(
        &self,
        stored: Option<StoredPassword>,
        password: Vec<u8>,
        peer: Option<IpAddr>,
    ) -> Result<bool, Rejection> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        self.may_try(peer)?;
        let busy = || {
            let detail = "too many passwords wait to be verified";
            Rejection::new(RejectKind::Overloaded, DECIDED_BY, detail).after(EVERY)
        };
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| busy())?;
        drop(place);
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let verified = tokio::task::spawn_blocking(move || {
            // held to the end, even if nobody waits for it any more
            let _turn = turn;
            stored.is_of(&password)
        });
        let right = verified.await.unwrap_or(false) && known;
        if right {
            self.forgive(peer);
        }
        Ok(right)
    }

    /// Counts a try before it is made, so that many at once are many.
    fn may_try(&self, peer: Option<IpAddr>) -> Result<(), Rejection> {
        let Some(peer) = peer else { return Ok(()) };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match wrong.admit(peer, Instant::now()) {
            None => Ok(()),
            Some(wait) => {
                let detail = "too many wrong passwords from this address";
                Err(Rejection::new(RejectKind::RateLimited, DECIDED_BY, detail).after(wait))
            }
        }
    }

    fn forgive(&self, peer: Option<IpAddr>) {
        if let Some(peer) = peer {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).tries.remove(&network(peer));
        }
    }
}

// === impl Wrong ===

impl Wrong {
    /// Counts one try; how long to wait if it is one too many.
    fn admit(&mut self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let peer = network(peer);
        let full = |tries: &HashMap<_, _>| tries.len() >= ADDRESSES && !tries.contains_key(&peer);
        if full(&self.tries) && self.cleared.is_none_or(|before| now.saturating_duration_since(before) >= EVERY) {
            self.tries.retain(|_, tries| tries.left(now) > 0);
            self.cleared = Some(now);
        }
        if full(&self.tries) {
            // as many addresses as there is room for guess at once: nobody else may begin to
            return Some(EVERY);
        }
        let tries = self.tries.entry(peer).or_insert(Tries { spent: 0, since: now });
        let left = tries.left(now);
        if left >= BURST {
            let next = EVERY * (tries.spent - left + 1);
            return Some(next.saturating_sub(now.saturating_duration_since(tries.since)));
        }
        let regained = tries.spent - left;
        tries.since = if left == 0 { now } else { tries.since + EVERY * regained };
        tries.spent = left + 1;
        None
    }
}

// === impl Tries ===

impl Tries {
    /// What still counts.
    fn left(&self, now: Instant) -> u32 {
        let regained = now.saturating_duration_since(self.since).as_millis() / EVERY.as_millis();
        self.spent.saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX))
    }
}

/// One IPv6 customer has a /64, so it counts as one address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, so that the tests are.
    fn cheap(password: &str) -> StoredPassword {
        let params = Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        StoredPassword(
            argon2.hash_password_with_salt(password.as_bytes(), b"sixteen bytes...").unwrap().to_string().into(),
        )
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::new();
        let verify = async |stored, password: &str| passwords.verify(stored, password.into(), None).await.unwrap();
        assert!(verify(Some(cheap("correct horse")), "correct horse").await);
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!verify(Some(cheap("correct horse")), wrong).await, "{wrong:?}");
        }
        assert!(!verify(None, "correct horse").await, "there is no such user");
        assert!(!verify(Some(cheap("correct horse")), &"x".repeat(MAX_PASSWORD + 1)).await);
    }

    #[test]
    fn a_hashed_password_reads_back_and_shows_nothing() {
        let stored = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored.as_str());
        let read = StoredPassword::parse(stored.as_str()).unwrap();
        assert!(read.is_of(b"correct horse") && !read.is_of(b"correct house"));
        assert_eq!(format!("{read:?}"), "StoredPassword(***)");
        assert_eq!(StoredPassword::hash(&Secret::new("1234567")).unwrap_err(), PasswordError::TooShort);
        assert_eq!(
            StoredPassword::hash(&Secret::new("x".repeat(MAX_PASSWORD + 1))).unwrap_err(),
            PasswordError::TooLong
        );
    }

    #[test]
    fn what_is_no_hash_or_too_dear_is_refused() {
        let with = |params: &str| {
            format!("$argon2id$v=19${params}$c2l4dGVlbiBieXRlcy4uLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        };
        assert!(StoredPassword::parse(&with("m=65536,t=3,p=1")).is_ok());
        assert_eq!(StoredPassword::parse(&with("m=4194304,t=3,p=1")).unwrap_err(), PasswordError::TooDear);
        assert_eq!(StoredPassword::parse(&with("m=65536,t=4000,p=1")).unwrap_err(), PasswordError::TooDear);
        for text in [
            "",
            "secret",
            "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg",
            "$2y$10$abc",
            "$argon2i$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(StoredPassword::parse(text).unwrap_err(), PasswordError::NotAHash, "{text}");
        }
    }

    #[tokio::test]
    async fn an_address_that_guesses_is_told_to_wait_and_another_is_not() {
        let passwords = Passwords::new();
        let (guesser, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let stored = cheap("correct horse");
        let mut refused = 0;
        for _ in 0..BURST + 5 {
            match passwords.verify(Some(stored.clone()), b"wrong".to_vec(), Some(guesser)).await {
                Ok(right) => assert!(!right),
                Err(rejection) => {
                    assert_eq!(rejection.kind, RejectKind::RateLimited);
                    assert!(rejection.retry_after.is_some_and(|wait| !wait.is_zero() && wait <= EVERY));
                    refused += 1;
                }
            }
        }
        assert!(refused >= 1, "the burst is {BURST}");
        assert!(passwords.verify(Some(stored), b"correct horse".to_vec(), Some(other)).await.unwrap());
    }

    #[test]
    fn tries_come_back_one_by_one_and_a_network_is_one_address() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, n]);
        for n in 0..BURST {
            assert_eq!(wrong.admit(host(n as u16), now), None);
        }
        assert!(wrong.admit(host(99), now).is_some());
        assert!(wrong.admit(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1]), now).is_none());
        assert_eq!(wrong.admit(host(1), now + EVERY), None);
        assert!(wrong.admit(host(1), now + EVERY).is_some());
        assert_eq!(wrong.admit(host(1), now + EVERY * 100), None);
    }

    #[test]
    fn addresses_are_remembered_up_to_a_bound_and_forgotten_when_they_stop() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        let host = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        for n in 0..ADDRESSES as u32 {
            assert_eq!(wrong.admit(host(n), now), None);
        }
        assert!(wrong.admit(host(u32::MAX), now).is_some(), "no room");
        assert_eq!(wrong.admit(host(u32::MAX), now + EVERY), None);
        assert_eq!(wrong.tries.len(), 1);
    }

    #[tokio::test]
    async fn ten_thousand_guesses_from_as_many_addresses_cost_a_bounded_time() {
        let passwords = Passwords::new();
        let stored = passwords.nobody.clone();
        let guesses = (0..10_000_u32).map(|n| {
            let peer = IpAddr::from(std::net::Ipv4Addr::from_bits(n));
            passwords.verify(Some(stored.clone()), b"wrong".to_vec(), Some(peer))
        });
        let answers = futures_util::future::join_all(guesses).await;
        let verified = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((1..2 * WAITING).contains(&verified), "{verified} were verified, the rest is told to come again");
        let told = answers.iter().filter_map(|answer| answer.as_ref().err());
        assert!(told.into_iter().all(|rejection| rejection.kind == RejectKind::Overloaded));
    }
}
