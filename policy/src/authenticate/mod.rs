//! Who a peer is: credentials to [`Principal`].
//!
//! API keys, passwords, tokens and client certificates; a peer without credentials is `anonymous`, where the policy file
//! says `anonymous: true`. Whatever can't be verified is refused: credentials that nobody can verify must never get more
//! than none at all. What is refused says why, but never whether the name or the secret was wrong.

mod authorization;
mod certificate;
mod identity;
mod key;
mod password;
mod token;
mod users;
mod verified;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{Authenticator, Credentials, Inbound, Principal, Proof, RejectKind, Rejection, Timestamp};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};

pub use certificate::{CertificateRule, names as certificate_names};
pub use key::{KeyHash, NewKey, NoRandom};
pub use password::{PasswordError, StoredPassword};
pub use token::{
    Fetched, FetchedKeys, Issuers, KeySet, KeySetError, Keys, KeysFrom, MAX_DOCUMENT, Revoked, TokenConfig,
};
pub(crate) use users::role;
pub use users::{ChangeError, User, Users, UsersFile};

use self::{
    authorization::Presented,
    password::Passwords,
    verified::{Print, Verified},
};
use crate::{Current, Epoch, lift::Rule};

const DECIDED_BY: &str = "authentication";
/// How long a connection is left alone before it is looked at again without a reason: the clock may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The [`Authenticator`] of every listener; decides by the epoch that is current when it is asked.
#[derive(Debug, Clone)]
pub struct Gate {
    current: Current,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    passwords: Passwords,
    verified: Verified,
}

/// Refuses messages of a principal that this epoch does not let in: its connection may be older than the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authenticated;

// === impl Gate ===

impl Gate {
    /// Decides by what `current` holds.
    pub fn new(current: Current) -> Result<Self, NoRandom> {
        let shared = Shared { passwords: Passwords::new(), verified: Verified::new()? };
        Ok(Self { current, shared: Arc::new(shared) })
    }

    fn authorization(
        &self,
        header: &[u8],
        peer: Option<IpAddr>,
    ) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
        let epoch = self.current.load_full();
        let presented = match Presented::of(header) {
            Ok(presented) => presented,
            Err(error) => return now(Err(refuse(error.to_string()))),
        };
        match presented {
            Presented::Key { id, secret } => now(known(epoch.users.by_key(&id, &secret))),
            Presented::Token(token) => {
                now(self.remembered(&epoch, header, |_| epoch.issuers.verify(&epoch.domain, token, Timestamp::now())))
            }
            Presented::Password { name, password } => self.password(&epoch, header, &name, password, peer),
        }
    }

    /// What these credentials were verified to be before, if they still are; else what `verify` says.
    fn remembered(
        &self,
        epoch: &Epoch,
        header: &[u8],
        verify: impl FnOnce(&Print) -> Result<Principal, Rejection>,
    ) -> Result<Arc<Principal>, Rejection> {
        let Shared { verified, .. } = &*self.shared;
        let print = verified.print(header);
        if let Some(principal) = verified.get(&print) {
            if epoch.stands(&principal, Timestamp::now()).is_ok() {
                return Ok(principal);
            }
            verified.forget(&print);
        }
        let principal = Arc::new(verify(&print)?);
        verified.put(print, principal.clone());
        Ok(principal)
    }

    fn password(
        &self,
        epoch: &Arc<Epoch>,
        header: &[u8],
        name: &str,
        password: Vec<u8>,
        peer: Option<IpAddr>,
    ) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
        let print = self.shared.verified.print(header);
        let user = epoch.users.by_name(name);
        let (stored, principal) = user.cloned().unzip();
        if let Some(before) = self.shared.verified.get(&print)
            && principal.as_ref() == Some(&before)
        {
            return now(Ok(before));
        }
        let shared = self.shared.clone();
        async move {
            let right = shared.passwords.verify(stored, password, peer).await?;
            let principal = known(principal.as_ref().filter(|_| right))?;
            shared.verified.put(print, principal.clone());
            Ok(principal)
        }
        .boxed()
    }

    fn certificate(&self, der: &[u8]) -> Result<Arc<Principal>, Rejection> {
        let epoch = self.current.load_full();
        self.remembered(&epoch, der, |_| {
            let names = certificate::names(der).ok_or_else(|| refuse("no certificate that can be read"))?;
            certificate::principal(&epoch.access.certificates, &epoch.domain, Arc::new(names))
        })
    }
}

impl Authenticator for Gate {
    fn verify(
        &self,
        credentials: Credentials,
        peer: Option<IpAddr>,
    ) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
        let verified = match credentials {
            Credentials::None => return now(self.current.load().anonymous().ok_or_else(required)),
            Credentials::Certificate(der) => Either::Left(ready(self.certificate(&der))),
            Credentials::Authorization(header) => Either::Right(self.authorization(&header, peer)),
            Credentials::Password { name, password } => {
                Either::Right(self.authorization(&authorization::header(&name, &password), peer))
            }
        };
        let current = self.current.clone();
        async move {
            let principal = verified.await?;
            // by the epoch of now, which may be a later one, and by the clock: a key may have ended
            current.load().stands(&principal, Timestamp::now())?;
            Ok(principal)
        }
        .boxed()
    }

    fn ended(&self, principal: Arc<Principal>) -> BoxFuture<'static, Rejection> {
        let current = self.current.clone();
        async move {
            let mut changes = current.changes();
            loop {
                if let Err(why) = current.load().stands(&principal, Timestamp::now()) {
                    return why;
                }
                // a sleep is no clock: it is asked again at least this often
                let left = principal.expires.map_or(LOOK_AGAIN, |end| until(end).min(LOOK_AGAIN));
                // a timeout is one of the two reasons to look again
                _ = tokio::time::timeout(left, changes.changed()).await;
            }
        }
        .boxed()
    }
}

fn until(end: Timestamp) -> Duration {
    let left = end.as_micros().saturating_sub(Timestamp::now().as_micros());
    Duration::from_micros(left) + Duration::from_millis(1)
}

fn now(verified: Result<Arc<Principal>, Rejection>) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
    ready(verified).boxed()
}

/// What the principals of bridges are called: this and the bridge's name.
pub const BRIDGE: &str = "$bridge:";

// === impl Authenticated ===

impl Rule<Inbound> for Authenticated {
    fn check(&self, epoch: &Epoch, inbound: &Inbound) -> Result<(), Rejection> {
        if is_the_bridge(inbound) {
            return Ok(());
        }
        epoch.stands(&inbound.principal, inbound.received_at.into())
    }
}

/// Whether the bridge itself is the sender, which brings what a remote peer gave it. Nobody who logs in is without a proof
/// and called so.
fn is_the_bridge(inbound: &Inbound) -> bool {
    let Principal { id, proof, .. } = &*inbound.principal;
    *proof == Proof::None && id.strip_prefix(BRIDGE) == Some(&*inbound.bridge)
}

// === impl Epoch ===

impl Epoch {
    /// Refuses who was let in before, by an epoch before or when its credentials had not ended, and is not any more:
    /// who would be another principal by now, with other roles for example, has to prove itself again.
    pub fn stands(&self, principal: &Principal, now: Timestamp) -> Result<(), Rejection> {
        if principal.has_expired(now) {
            return Err(refuse("the credentials have ended"));
        }
        let stands = match &principal.proof {
            Proof::None => match self.access.anonymous {
                true => *principal.id == *Principal::ANONYMOUS,
                false => return Err(required()),
            },
            proof @ (Proof::Key { .. } | Proof::Password { .. }) => {
                let known = self.users.by_proof(&principal.id, proof);
                known.is_some_and(|known| std::ptr::eq(&**known, principal) || **known == *principal)
            }
            Proof::Token { .. } => self.issuers.accept(principal),
            Proof::Certificate(names) => {
                let known = certificate::principal(&self.access.certificates, &self.domain, names.clone());
                known.is_ok_and(|known| known == *principal)
            }
        };
        if stands { Ok(()) } else { Err(refuse("the credentials were revoked or changed")) }
    }

    /// As [`Epoch::stands`], by the clock.
    pub fn still_lets_in(&self, principal: &Principal) -> Result<(), Rejection> {
        self.stands(principal, SystemTime::now().into())
    }
}

fn known(principal: Option<&Arc<Principal>>) -> Result<Arc<Principal>, Rejection> {
    principal.cloned().ok_or_else(|| refuse("the credentials are not valid"))
}

fn required() -> Rejection {
    refuse("credentials are required")
}

fn refuse(detail: impl Into<String>) -> Rejection {
    Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail)
}

/// What a header presents, if anything.
///
/// # Panics
/// If it presents a user without a password's form.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_header(header: &[u8]) {
    if let Ok(Presented::Password { name, .. }) = Presented::of(header) {
        assert!(!name.contains(':'), "{name:?}");
    }
}

/// What a protocol without headers has as a name and a password is read as just that.
///
/// # Panics
/// If it is not.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_password(name: &str, password: &[u8]) {
    let header = authorization::header(name, password);
    if let Ok(Presented::Password { name: read, password: of_it }) = Presented::of(&header) {
        assert_eq!((read.replace('\0', ":"), &*of_it), (name.replace('\0', ":"), password));
    }
}

/// Who brings this token.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_token(issuers: &Issuers, domain: &str, token: &str, now: Timestamp) -> Result<Principal, Rejection> {
    issuers.verify(&domain.into(), token, now)
}

#[cfg(test)]
mod tests;
