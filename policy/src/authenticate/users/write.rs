//! Changes `users.yaml`, and writes it as it is read.

use std::{collections::btree_map::Entry, fmt, fmt::Write as _};

use envelope::Attribute;

use super::{Key, User, UsersFile};
use crate::authenticate::identity::{MAX_ROLES, check_id, is_role};

/// Why the file can't be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The name is none for a user.
    #[error("{name:?} {why}")]
    BadName {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name is none for a role, or there are too many.
    #[error("{0:?} is no role: 1 to 128 bytes without control characters, and at most {MAX_ROLES} of them")]
    BadRole(String),
    /// There is one.
    #[error("user {0:?} exists already")]
    UserExists(String),
    /// There is none.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// There is one.
    #[error("key {0:?} exists already")]
    KeyExists(String),
    /// There is none.
    #[error("there is no key {0:?}")]
    NoKey(String),
}

/// What the written file begins with.
const HEAD: &str = "# Users and the hashes of what they prove themselves with. Written by `openmesh user` and `openmesh key`, which\n\
                    # keep no comments. No secret is in here.\n";

// === impl UsersFile ===

impl UsersFile {
    /// Adds a user that does not exist.
    pub fn add_user(&mut self, id: &str, user: User) -> Result<(), ChangeError> {
        check_id(id).map_err(|why| ChangeError::BadName { name: id.to_owned(), why: why.to_string() })?;
        if let Some(role) = user.roles.iter().enumerate().find(|(n, role)| *n >= MAX_ROLES || !is_role(role)) {
            return Err(ChangeError::BadRole(role.1.to_string()));
        }
        match self.users.entry(id.to_owned()) {
            Entry::Occupied(_) => Err(ChangeError::UserExists(id.to_owned())),
            Entry::Vacant(vacant) => {
                let mut user = user;
                user.roles.sort();
                user.roles.dedup();
                vacant.insert(user);
                Ok(())
            }
        }
    }

    /// Changes a user that exists.
    pub fn change_user(&mut self, id: &str, change: impl FnOnce(User) -> User) -> Result<(), ChangeError> {
        let user = self.users.get_mut(id).ok_or_else(|| ChangeError::NoUser(id.to_owned()))?;
        *user = change(std::mem::take(user));
        Ok(())
    }
}

impl fmt::Display for UsersFile {
    /// As YAML that reads back as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        if self.users.is_empty() {
            return f.write_str("users: {}\n");
        }
        f.write_str("users:\n")?;
        self.users.iter().try_for_each(|(id, user)| write_user(f, id, user))
    }
}

fn write_user(f: &mut fmt::Formatter<'_>, id: &str, user: &User) -> fmt::Result {
    let User { roles, jurisdiction, trust, disabled, attributes, password, keys } = user;
    writeln!(f, "  {}:", quoted(id))?;
    writeln!(f, "    roles: [{}]", list(roles.iter().map(|role| &**role)))?;
    if let Some(label) = jurisdiction {
        writeln!(f, "    jurisdiction: {}", quoted(label))?;
    }
    if *trust > 0 {
        writeln!(f, "    trust: {trust}")?;
    }
    if *disabled {
        writeln!(f, "    disabled: true")?;
    }
    if !attributes.is_empty() {
        writeln!(f, "    attributes:")?;
        for (name, value) in attributes {
            writeln!(f, "      {}: {}", quoted(name), attribute(value))?;
        }
    }
    if let Some(password) = password {
        writeln!(f, "    password: {}", quoted(password.as_str()))?;
    }
    if !keys.is_empty() {
        writeln!(f, "    keys:")?;
    }
    for (id, Key { hash, expires }) in keys {
        let expires = expires.map(|end| format!(", expires: \"{end}\"")).unwrap_or_default();
        writeln!(f, "      {}: {{ hash: \"{hash}\"{expires} }}", quoted(id))?;
    }
    Ok(())
}

fn attribute(value: &Attribute) -> String {
    match value {
        Attribute::Boolean(value) => value.to_string(),
        Attribute::Integer(value) => value.to_string(),
        Attribute::Decimal(value) => decimal(*value),
        Attribute::Text(text) => quoted(text),
        Attribute::List(texts) => format!("[{}]", list(texts.iter().map(|text| &**text))),
    }
}

/// Of ten-thousandths.
fn decimal(value: i64) -> String {
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:04}", value / 10_000, value % 10_000)
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(quoted).collect::<Vec<_>>().join(", ")
}

/// In YAML's double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // writing to a String never fails
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}' => {
                _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
