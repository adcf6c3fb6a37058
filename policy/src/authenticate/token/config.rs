//! The section `tokens` of the policy file: whose tokens are accepted, and as whom.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use yaml::{Fields, Node, Problems};

use super::jwks::Algorithm;
use crate::{
    authenticate::users::{roles, trust},
    config::{Attributes, ValueType},
};

/// One issuer whose tokens are accepted.
///
/// ```yaml
/// tokens:
///   corp:
///     issuer: https://login.example
///     audience: openmesh
///     keys: { url: https://login.example/keys, refresh: 5m }   # or { file: corp-keys.json }
///     roles: groups              # the claim with the roles
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenConfig {
    /// The section's name.
    pub name: Arc<str>,
    /// `iss`, to the letter.
    pub issuer: String,
    /// One of these is in `aud`.
    pub audience: Vec<String>,
    /// Where the keys are.
    pub keys: KeysFrom,
    /// The file with what it has revoked, in the folder of the policies. What it says is no part of the version: it is
    /// asked again for each principal.
    pub revoked: Option<String>,
    /// The algorithms that are accepted.
    pub(crate) algorithms: Vec<Algorithm>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The claim with the principal's id.
    pub(crate) principal: String,
    /// The claim with the roles.
    pub(crate) roles: Option<String>,
    /// Roles that each of them has.
    pub(crate) grant: Vec<Arc<str>>,
    /// Attributes, by the claims they come from.
    pub(crate) attributes: BTreeMap<Arc<str>, (ValueType, String)>,
    pub(crate) jurisdiction: Option<Arc<str>>,
    pub(crate) trust: u8,
}

/// Where an issuer's keys are, as a JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeysFrom {
    /// In a file, relative to the policy file; read with it.
    File(String),
    /// At a URL.
    Url {
        /// `https`, or `http` on loopback.
        url: http::Uri,
        /// How often they are fetched.
        refresh: Duration,
        /// The authorities that its certificate is verified with, in PEM.
        authorities: std::path::PathBuf,
    },
}

const ALGORITHMS: &[(&str, Algorithm)] =
    &[("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("EdDSA", Algorithm::EdDsa)];
const MAX_LEEWAY: Duration = Duration::from_secs(600);
const LEEWAY: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(300);
/// Where Linux distributions keep the authorities that they trust.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The most issuers.
const MAX_ISSUERS: usize = 64;

// === impl TokenConfig ===

impl TokenConfig {
    /// Reads every issuer. No two may have the same `issuer`: a token is verified by exactly one section.
    pub(crate) fn read_all(node: &Node, attributes: &Attributes, problems: &Problems) -> Option<Vec<Arc<Self>>> {
        let entries = node.map(problems)?;
        if entries.len() > MAX_ISSUERS {
            problems.report(node.span, "too-many", format!("{} issuers, limit is {MAX_ISSUERS}", entries.len()));
            return None;
        }
        let mut all: Vec<Arc<Self>> = Vec::new();
        let mut sound = true;
        for (key, node) in entries {
            let Some(config) = Self::read(&key.name, node, attributes, problems) else {
                sound = false;
                continue;
            };
            if let Some(other) = all.iter().find(|other| other.issuer == config.issuer) {
                let message = format!("issuer {:?} is that of {:?} already", config.issuer, other.name);
                problems.report(node.span.first(), "conflict", message);
                sound = false;
            }
            all.push(Arc::new(config));
        }
        sound.then_some(all)
    }

    fn read(name: &str, node: &Node, attributes: &Attributes, problems: &Problems) -> Option<Self> {
        let text = |node: Option<&Node>| node.and_then(|node| node.non_empty(problems)).map(str::to_owned);
        let mut fields = Fields::of(node, problems)?;
        let issuer = text(fields.required("issuer"));
        let audience = fields.required("audience").and_then(|node| audience(node, problems));
        let keys = fields.required("keys").and_then(|node| KeysFrom::read(node, problems));
        let revoked = match fields.optional("revoked") {
            Some(node) => text(Some(node)).map(Some),
            None => Some(None),
        };
        let algorithms = match fields.optional("algorithms") {
            Some(node) => algorithms(node, problems),
            None => Some(ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect()),
        };
        let leeway = match fields.optional("leeway") {
            Some(node) => node.duration(Duration::ZERO..=MAX_LEEWAY, problems),
            None => Some(LEEWAY),
        };
        let principal = match fields.optional("principal") {
            Some(node) => text(Some(node)),
            None => Some("sub".to_owned()),
        };
        let claim = match fields.optional("roles") {
            Some(node) => text(Some(node)).map(Some),
            None => Some(None),
        };
        let grant = fields.optional("grant").map_or(Some(Vec::new()), |node| roles(node, attributes, problems));
        let attributes = match fields.optional("attributes") {
            Some(node) => claims(node, attributes, problems),
            None => Some(BTreeMap::new()),
        };
        let jurisdiction = match fields.optional("jurisdiction") {
            Some(node) => text(Some(node)).map(|label| Some(label.into())),
            None => Some(None),
        };
        let trust = fields.optional("trust").map_or(Some(0), |node| trust(node, problems));
        fields.finish();
        Some(Self {
            name: name.into(),
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            revoked: revoked?,
            algorithms: algorithms?,
            leeway: leeway?,
            principal: principal?,
            roles: claim?,
            grant: grant?,
            attributes: attributes?,
            jurisdiction: jurisdiction?,
            trust: trust?,
        })
    }

    /// Another one if the section says something else.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

fn audience(node: &Node, problems: &Problems) -> Option<Vec<String>> {
    let all = match node.as_str() {
        Some(_) => vec![node.non_empty(problems)?.to_owned()],
        None => node.strings(problems)?.into_iter().map(str::to_owned).collect(),
    };
    if all.is_empty() || all.iter().any(String::is_empty) {
        problems.report(
            node.span,
            "empty",
            "a token for nobody in particular is accepted by everybody: name an audience",
        );
        return None;
    }
    Some(all)
}

fn algorithms(node: &Node, problems: &Problems) -> Option<Vec<Algorithm>> {
    let read: Option<Vec<_>> = node.list(problems)?.iter().map(|item| item.one_of(ALGORITHMS, problems)).collect();
    let read = read?;
    if read.is_empty() {
        problems.report(node.span, "empty", "without an algorithm no token is accepted");
        return None;
    }
    Some(read)
}

/// `attribute: claim`.
fn claims(
    node: &Node,
    attributes: &Attributes,
    problems: &Problems,
) -> Option<BTreeMap<Arc<str>, (ValueType, String)>> {
    let mut all = BTreeMap::new();
    let mut sound = true;
    for (key, node) in node.map(problems)? {
        match (attributes.types.get_key_value(key.name.as_str()), node.non_empty(problems)) {
            (Some((name, kind)), Some(claim)) => _ = all.insert(name.clone(), (*kind, claim.to_owned())),
            (None, _) => {
                let help = "attributes are declared in policy.yaml, under access.attributes";
                let shown: String = key.name.chars().take(64).collect();
                problems.report_with_help(
                    key.span,
                    "unknown-key",
                    format!("attribute {shown:?} is not declared"),
                    help,
                );
                sound = false;
            }
            (Some(_), None) => sound = false,
        }
    }
    sound.then_some(all)
}

// === impl KeysFrom ===

impl KeysFrom {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let file = fields.optional("file");
        let url = fields.optional("url");
        let refresh = match fields.optional("refresh") {
            Some(node) => node.duration(Duration::from_secs(10)..=Duration::from_secs(86_400), problems),
            None => Some(REFRESH),
        };
        let authorities = match fields.optional("authorities") {
            Some(node) => node.non_empty(problems),
            None => Some(AUTHORITIES),
        };
        fields.finish();
        match (file, url) {
            (Some(file), None) => file.non_empty(problems).map(|path| Self::File(path.to_owned())),
            (None, Some(node)) => {
                Some(Self::Url { url: url_of(node, problems)?, refresh: refresh?, authorities: authorities?.into() })
            }
            (Some(_), Some(_)) | (None, None) => {
                problems.report(node.span, "keys", "keys are in one place: { file: PATH } or { url: URL }");
                None
            }
        }
    }
}

/// Whoever can change the keys on their way can make tokens, so plain text is for loopback only.
fn url_of(node: &Node, problems: &Problems) -> Option<http::Uri> {
    let expected = "an https URL such as https://login.example/keys";
    let Ok(url) = node.string(problems)?.parse::<http::Uri>() else {
        return node.mismatch(expected, problems);
    };
    let host = url.host().unwrap_or_default();
    let loopback = host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match url.scheme_str() {
        Some("https") if !host.is_empty() => Some(url),
        Some("http") if loopback => Some(url),
        Some("http") => {
            problems.report(node.span, "plain-text", "keys come by https; by http only from an address of loopback");
            None
        }
        _ => node.mismatch(expected, problems),
    }
}
