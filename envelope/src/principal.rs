//! Who sends or receives.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::Timestamp;

/// Who sends or receives, as authentication established it. Travels as an `Arc`: made once, when credentials are
/// verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Unique within the domain.
    pub id: Arc<str>,
    /// The domain that vouches for it.
    pub domain: Arc<str>,
    /// Sorted, each once.
    pub roles: Vec<Arc<str>>,
    /// Where it is, as a jurisdiction label, if known.
    pub jurisdiction: Option<Arc<str>>,
    /// 0 (none) to 100 (full).
    pub trust: u8,
    /// What else is known of it, for policies to read; never a secret.
    pub attributes: BTreeMap<Arc<str>, Attribute>,
    /// What it proved itself with; never a secret.
    pub proof: Proof,
    /// When its credentials end.
    pub expires: Option<Timestamp>,
}

/// A value of one of a principal's attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Yes or no.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number in ten-thousandths: 12.1 is 121,000.
    Decimal(i64),
    /// A text.
    Text(Arc<str>),
    /// Texts, in order.
    List(Vec<Arc<str>>),
}

/// What a principal proved itself with: by it a later configuration tells whether it is still let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Proof {
    /// Nothing: it is anonymous, or a part of this gateway.
    #[default]
    None,
    /// The API key of this id.
    Key {
        /// The key's id.
        id: Arc<str>,
        /// Another one for another secret under the same id.
        version: u64,
    },
    /// The password of the user of its own id.
    Password {
        /// Another one for another password.
        version: u64,
    },
    /// A token.
    Token {
        /// The section of the configuration by which it was accepted.
        issuer: Arc<str>,
        /// Another one if the section says something else.
        version: u64,
        /// The key that signed it.
        key: Arc<str>,
        /// What its issuer calls it (`jti`).
        id: Option<Arc<str>>,
    },
    /// A certificate whose chain the listener verified.
    Certificate(Arc<CertificateNames>),
}

/// What a verified client certificate calls its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CertificateNames {
    /// The one common name of the subject, if it has exactly one.
    pub common_name: Option<String>,
    /// Alternative names of the kind DNS, as they are written.
    pub dns: Vec<String>,
    /// Alternative names of the kind URI, such as a SPIFFE ID.
    pub uri: Vec<String>,
    /// Alternative names of the kind email.
    pub email: Vec<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

// === impl Principal ===

impl Principal {
    /// What anonymous peers are called.
    pub const ANONYMOUS: &'static str = "anonymous";

    /// A principal of this domain without roles, trust or an end.
    pub fn new(id: impl Into<Arc<str>>, domain: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            domain: domain.into(),
            roles: Vec::new(),
            jurisdiction: None,
            trust: 0,
            attributes: BTreeMap::new(),
            proof: Proof::None,
            expires: None,
        }
    }

    /// The principal that anonymous peers get where the policy lets them in: no role, no trust, never expires.
    pub fn anonymous(domain: &str) -> Self {
        Self::new(Self::ANONYMOUS, domain)
    }

    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.binary_search_by(|own| (**own).cmp(role)).is_ok()
    }

    /// Whether its credentials have ended by `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

// === impl Proof ===

impl Proof {
    /// In a word, for logs and the audit.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key { .. } => "key",
            Self::Password { .. } => "password",
            Self::Token { .. } => "token",
            Self::Certificate(_) => "certificate",
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_whatever_stands_beside_it() {
        let roles = vec!["operator".into(), "press".into(), "viewer".into()];
        let principal = Principal { roles, ..Principal::new("a", "d") };
        assert!(["operator", "press", "viewer"].iter().all(|role| principal.has_role(role)));
        assert!(!principal.has_role("press ") && !principal.has_role(""));
    }

    #[test]
    fn credentials_have_ended_at_their_end() {
        let at = Timestamp::from_micros;
        let principal = Principal { expires: Some(at(5)), ..Principal::new("a", "d") };
        assert_eq!([4, 5, 6].map(|now| principal.has_expired(at(now))), [false, true, true]);
        assert!(!Principal::anonymous("d").has_expired(Timestamp::MAX));
    }
}
