//! Client certificates: whose they are, by declared rules.
//!
//! The listener has verified the chain. What a certificate calls its owner means nothing here until a rule says so.

use std::{collections::BTreeMap, sync::Arc};

use envelope::{Attribute, CertificateNames, Principal, Proof, RejectKind, Rejection, Timestamp};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use yaml::{Fields, Node, Problems};

use super::{
    DECIDED_BY,
    identity::check_id,
    users::{roles, trust},
};
use crate::config::Attributes;

/// Certificates of one kind, and the principals that they are of.
///
/// ```yaml
/// certificates:
///   - match: { uri: "spiffe://plant-a/press/*" }
///     principal: press-*
///     roles: [device]
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRule {
    field: Field,
    pattern: Pattern,
    principal: Pattern,
    roles: Vec<Arc<str>>,
    jurisdiction: Option<Arc<str>>,
    trust: u8,
    attributes: BTreeMap<Arc<str>, Attribute>,
}

/// What of a certificate a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    CommonName,
    Dns,
    Uri,
    Email,
}

/// A text with at most one `*`, which stands for anything but nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    head: String,
    /// `None`: there is no `*`.
    tail: Option<String>,
}

const FIELDS: [(&str, Field); 4] =
    [("common_name", Field::CommonName), ("dns", Field::Dns), ("uri", Field::Uri), ("email", Field::Email)];
/// The most rules.
const MAX_RULES: usize = 1_024;

/// What a certificate in DER calls its owner; `None` if it is no certificate.
pub fn names(der: &[u8]) -> Option<CertificateNames> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut common = certificate.subject().iter_common_name();
    let first = common.next().map(|name| name.as_str().map(str::to_owned));
    // one that is no text is a name too: then nobody knows which one counts
    let common_name = match (first, common.next()) {
        (Some(Ok(name)), None) => Some(name),
        (Some(Err(_)), _) | (Some(Ok(_)), Some(_)) | (None, _) => None,
    };
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let expires = Some(Timestamp::from_micros(end.saturating_mul(1_000_000)));
    let mut names = CertificateNames { common_name, expires, ..CertificateNames::default() };
    let alternative = certificate.subject_alternative_name().ok()?;
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::URI(name) => names.uri.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => names.email.push((*name).to_owned()),
            // no rule can ask for them
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => {}
        }
    }
    Some(names)
}

/// The principal of a certificate: that of the first rule that matches.
pub(super) fn principal(
    rules: &[CertificateRule],
    domain: &Arc<str>,
    names: Arc<CertificateNames>,
) -> Result<Principal, Rejection> {
    let refuse = |detail: String| Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail);
    let matching = rules.iter().find_map(|rule| Some((rule, rule.matches(&names)?)));
    let (rule, id) = matching.ok_or_else(|| refuse("no rule takes this certificate".to_owned()))?;
    check_id(&id).map_err(|why| refuse(format!("the certificate's name {why}")))?;
    Ok(Principal {
        roles: rule.roles.clone(),
        jurisdiction: rule.jurisdiction.clone(),
        trust: rule.trust,
        attributes: rule.attributes.clone(),
        expires: names.expires,
        proof: Proof::Certificate(names),
        ..Principal::new(id, domain.clone())
    })
}

// === impl CertificateRule ===

impl CertificateRule {
    /// Reads the rules in order.
    pub(crate) fn read_all(node: &Node, attributes: &Attributes, problems: &Problems) -> Option<Vec<Self>> {
        let items = node.list(problems)?;
        if items.len() > MAX_RULES {
            problems.report(node.span, "too-many", format!("{} rules, limit is {MAX_RULES}", items.len()));
            return None;
        }
        let read: Vec<_> = items.iter().map(|item| Self::read(item, attributes, problems)).collect();
        read.into_iter().collect()
    }

    fn read(node: &Node, attributes: &Attributes, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let matched = fields.required("match").and_then(|node| matched(node, problems));
        let principal = fields.required("principal").and_then(|node| Pattern::read(node, problems));
        if let Some(((_, pattern), principal)) = matched.as_ref().zip(principal.as_ref())
            && principal.tail.is_some() != pattern.tail.is_some()
        {
            let message = "the '*' of the principal stands for the '*' of the match: both or none have one";
            problems.report(node.span.first(), "bad-pattern", message);
            return None;
        }
        let roles = fields.optional("roles").map_or(Some(Vec::new()), |node| roles(node, attributes, problems));
        let jurisdiction = match fields.optional("jurisdiction") {
            Some(node) => node.non_empty(problems).map(|label| Some(label.into())),
            None => Some(None),
        };
        let trust = fields.optional("trust").map_or(Some(0), |node| trust(node, problems));
        let attributes =
            fields.optional("attributes").map_or(Some(BTreeMap::new()), |node| attributes.read(node, problems));
        fields.finish();
        let (field, pattern) = matched?;
        Some(Self {
            field,
            pattern,
            principal: principal?,
            roles: roles?,
            jurisdiction: jurisdiction?,
            trust: trust?,
            attributes: attributes?,
        })
    }

    /// The id of the certificate's owner, if the rule takes it. Of several names of the kind, the first that matches.
    fn matches(&self, names: &CertificateNames) -> Option<String> {
        let found: Vec<&str> = match self.field {
            Field::CommonName => names.common_name.iter().map(String::as_str).collect(),
            Field::Dns => names.dns.iter().map(String::as_str).collect(),
            Field::Uri => names.uri.iter().map(String::as_str).collect(),
            Field::Email => names.email.iter().map(String::as_str).collect(),
        };
        let Pattern { head, tail } = &self.principal;
        found.into_iter().find_map(|name| self.pattern.matches(name)).map(|star| match tail {
            Some(tail) => format!("{head}{star}{tail}"),
            None => head.clone(),
        })
    }
}

fn matched(node: &Node, problems: &Problems) -> Option<(Field, Pattern)> {
    let mut fields = Fields::of(node, problems)?;
    let found: Vec<_> = FIELDS.iter().filter_map(|(key, field)| Some((*field, fields.optional(key)?))).collect();
    fields.finish();
    match found[..] {
        [(field, node)] => Some((field, Pattern::read(node, problems)?)),
        _ => {
            let message = format!("a rule looks at one name, this at {}", found.len());
            problems.report(node.span, "bad-match", message);
            None
        }
    }
}

// === impl Pattern ===

impl Pattern {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let text = node.non_empty(problems)?;
        match text.split_once('*') {
            Some((_, tail)) if tail.contains('*') => {
                problems.report(node.span, "bad-pattern", "there can be one '*'");
                None
            }
            Some((head, tail)) => Some(Self { head: head.to_owned(), tail: Some(tail.to_owned()) }),
            None => Some(Self { head: text.to_owned(), tail: None }),
        }
    }

    /// What the `*` stands for, which is nothing where there is none.
    fn matches<'n>(&self, name: &'n str) -> Option<&'n str> {
        match &self.tail {
            None => (name == self.head).then_some(""),
            Some(tail) => name.strip_prefix(&*self.head)?.strip_suffix(&**tail).filter(|star| !star.is_empty()),
        }
    }
}
