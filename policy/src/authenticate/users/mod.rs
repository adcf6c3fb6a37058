//! `users.yaml`: who is known here, and the hashes of what they prove it with.
//!
//! Credentials stand in a file of their own, which `openmesh user` and `openmesh key` write. It holds no secret: hashes
//! of random keys, and argon2id hashes of passwords. Comments are not kept when the file is written.

mod read;
mod write;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envelope::{Attribute, Principal, Proof, Timestamp};
use yaml::{Diagnostics, File};

use super::{
    key::{KeyHash, NewKey},
    password::StoredPassword,
};
use crate::config::Attributes;

pub(crate) use read::role;
pub(super) use read::{roles, trust};
pub use write::ChangeError;

/// What the file says, to be changed and written again.
///
/// ```yaml
/// users:
///   press-7:
///     roles: [device]
///     jurisdiction: "no"
///     trust: 50
///     disabled: true                    # nobody gets in as this user, and whoever is in is out
///     attributes: { limit: 1000 }       # declared in policy.yaml
///     password: $argon2id$v=19$...
///     keys:
///       k3f9a2mwzx: { hash: "sha256:...", expires: 2027-01-01T00:00:00Z }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsersFile {
    users: BTreeMap<String, User>,
}

/// One user of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Sorted, each once.
    pub roles: Vec<Arc<str>>,
    /// Where it is, as a jurisdiction label.
    pub jurisdiction: Option<Arc<str>>,
    /// 0 to 100.
    pub trust: u8,
    /// Kept, and let in by nothing.
    pub disabled: bool,
    /// Those that the policy declares.
    pub attributes: BTreeMap<Arc<str>, Attribute>,
    password: Option<StoredPassword>,
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    hash: KeyHash,
    expires: Option<Timestamp>,
}

/// The users as authentication looks them up: each way in has its principal ready.
#[derive(Debug, Default)]
pub struct Users {
    passwords: HashMap<String, (StoredPassword, Arc<Principal>)>,
    keys: HashMap<String, (KeyHash, Arc<Principal>)>,
}

// === impl UsersFile ===

impl UsersFile {
    /// Reads the file's text; `name` is what errors call it, `attributes` what the policy declares.
    pub fn parse(name: &str, text: &str, attributes: &Attributes) -> Result<Self, Diagnostics> {
        let file = File::parse(name, text)?;
        file.read(|root, problems| read::users(root, attributes, problems)).map(|users| Self { users })
    }

    /// Those that the file names, by id.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(id, user)| (id.as_str(), user))
    }

    /// Who a user is, however it proves it; `None` if there is no such user.
    pub fn principal(&self, id: &str, domain: &Arc<str>) -> Option<Principal> {
        self.users.get(id).map(|user| Principal {
            roles: user.roles.clone(),
            jurisdiction: user.jurisdiction.clone(),
            trust: user.trust,
            attributes: user.attributes.clone(),
            ..Principal::new(id, domain.clone())
        })
    }

    /// The principals of this file's users in a domain.
    pub fn principals(&self, domain: &Arc<str>) -> Users {
        let mut principals = Users::default();
        for (id, user) in self.users.iter().filter(|(_, user)| !user.disabled) {
            let Some(plain) = self.principal(id, domain) else { continue };
            if let Some(password) = &user.password {
                let proof = Proof::Password { version: password.version() };
                let principal = Arc::new(Principal { proof, ..plain.clone() });
                principals.passwords.insert(id.clone(), (password.clone(), principal));
            }
            for (key_id, Key { hash, expires }) in &user.keys {
                let proof = Proof::Key { id: key_id.as_str().into(), version: hash.version() };
                let principal = Arc::new(Principal { proof, expires: *expires, ..plain.clone() });
                principals.keys.insert(key_id.clone(), (*hash, principal));
            }
        }
        principals
    }

    /// Adds a key to a user that exists.
    pub fn add_key(&mut self, user: &str, key: &NewKey, expires: Option<Timestamp>) -> Result<(), ChangeError> {
        if self.users.values().any(|user| user.keys.contains_key(&key.id)) {
            return Err(ChangeError::KeyExists(key.id.clone()));
        }
        let user = self.users.get_mut(user).ok_or_else(|| ChangeError::NoUser(user.to_owned()))?;
        user.keys.insert(key.id.clone(), Key { hash: key.hash, expires });
        Ok(())
    }

    /// Removes a key, whoever has it.
    pub fn remove_key(&mut self, id: &str) -> Result<(), ChangeError> {
        let removed = self.users.values_mut().any(|user| user.keys.remove(id).is_some());
        if removed { Ok(()) } else { Err(ChangeError::NoKey(id.to_owned())) }
    }

    /// Removes a user with all that it proves itself with.
    pub fn remove_user(&mut self, id: &str) -> Result<(), ChangeError> {
        self.users.remove(id).map(|_| ()).ok_or_else(|| ChangeError::NoUser(id.to_owned()))
    }
}

// === impl User ===

impl User {
    /// The same user with this password.
    #[must_use]
    pub fn with_password(self, password: StoredPassword) -> Self {
        Self { password: Some(password), ..self }
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The ids of its keys and when they end.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        self.keys.iter().map(|(id, key)| (id.as_str(), key.expires))
    }
}

// === impl Users ===

impl Users {
    /// Whose key this is.
    pub(super) fn by_key(&self, id: &str, secret: &[u8; 32]) -> Option<&Arc<Principal>> {
        let (hash, principal) = self.keys.get(id)?;
        hash.is_of(secret).then_some(principal)
    }

    /// The stored password of a user, and who it is.
    pub(super) fn by_name(&self, id: &str) -> Option<&(StoredPassword, Arc<Principal>)> {
        self.passwords.get(id)
    }

    /// The principal that this proof makes now.
    pub(super) fn by_proof(&self, id: &str, proof: &Proof) -> Option<&Arc<Principal>> {
        match proof {
            Proof::Key { id, .. } => self.keys.get(&**id).map(|(_, principal)| principal),
            Proof::Password { .. } => self.passwords.get(id).map(|(_, principal)| principal),
            Proof::None | Proof::Token { .. } | Proof::Certificate(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
