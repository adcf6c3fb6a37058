//! What `gateway.yaml` says, typed and checked.
//!
//! Strict: an unknown key is an error, and all errors are found at once. This file is the document as a whole, `sections`
//! its smaller parts, `load` everything that it names: mappings, schemas and policy. `contents` tells two of them apart,
//! `scan` whether the files are still the same.

mod backbone;
mod contents;
mod files;
mod format;
mod guards;
mod load;
mod scan;
mod sections;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ::backbone::EmbeddedConfig;
use bridges::{BridgeConfig, Resource, http::ServerConfig, registry};
use yaml::{Fields, Key, Node, Problems, Resolve, Span};

pub use backbone::BackboneConfig;
pub(crate) use contents::Contents;
pub use contents::{Changes, Differences};
pub use format::gateway_json_schema;
pub use guards::Guards;
pub(crate) use load::{Attempt, attempt};
pub use load::{Loaded, load};
pub(crate) use scan::{Places, Scan};
pub use sections::Limits;

pub use crate::notice::NoticeConfig;
use crate::telemetry::LogConfig;

/// `gateway.yaml`. Paths are resolved: relative ones begin at the file's folder, the backbone's at the working directory.
#[derive(Debug)]
pub struct Config {
    /// The gateway's name in the mesh: 1 to 63 of `a-z`, `0-9`, `.` and `-`.
    pub domain: Arc<str>,
    /// The jurisdictions whose data may be here, as labels.
    pub jurisdictions: Vec<Arc<str>>,
    /// Where envelopes live.
    pub backbone: BackboneConfig,
    /// The admin API's listener.
    pub admin: ServerConfig,
    /// The bridges by name, in the order of the file.
    pub bridges: Vec<NamedBridge>,
    /// Bounds over all bridges.
    pub limits: Limits,
    /// Who is told of messages that do not conform.
    pub notices: Option<NoticeConfig>,
    /// What is logged.
    pub log: LogConfig,
    /// The folder of the mapping files.
    pub mappings: PathBuf,
    /// The folder of the schemas.
    pub schemas: PathBuf,
    /// The folder of the tables; need not exist unless the file names it.
    pub tables: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// Who is known here; need not exist unless the file names it.
    pub users: PathBuf,
    /// The folder of the Cedar policies; need not exist unless the file names it.
    pub policies: PathBuf,
}

/// A bridge and its name in the config.
pub type NamedBridge = (Arc<str>, Box<dyn BridgeConfig>);

/// A resource that the file claims, and where it does.
struct Claim {
    resource: Resource,
    by: String,
    span: Span,
}

/// The most characters of a domain, of a bridge's name and of a jurisdiction: a DNS label's.
const MAX_NAME: usize = 63;
/// Where the mapping files are if nothing is said.
const MAPPINGS: &str = "mappings/";
/// Where the schemas are if nothing is said.
const SCHEMAS: &str = "schemas/";
/// Where the tables are if nothing is said.
const TABLES: &str = "tables/";
/// Where the policy is if nothing is said.
const POLICY: &str = "policy.yaml";
/// Where the users are if nothing is said.
const USERS: &str = "users.yaml";
/// Where the Cedar policies are if nothing is said.
const POLICIES: &str = "policies/";
/// The longest secret that `${file:PATH}` takes, in bytes.
const MAX_SECRET: u64 = 65_536;

// === impl Config ===

impl Config {
    /// Reads the file's value; `folder` is what its paths are relative to. What is wrong goes to `problems`.
    fn read(root: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let read_file = |path: &str| files::read(&folder.join(path), MAX_SECRET);
        let resolve = Resolve { env: &|name| std::env::var(name).ok(), file: &read_file };
        let mut fields = Fields::of(root, problems)?;
        let mut claims = Vec::new();
        let domain = fields.required("domain").and_then(|node| domain(node, problems));
        let jurisdictions = jurisdictions(&mut fields, problems);
        let backbone = fields.required("backbone").and_then(|node| BackboneConfig::read(node, &resolve, problems));
        let admin = fields.required("admin").and_then(|node| admin(node, folder, &mut claims, problems));
        let section = fields.required("bridges");
        let bridges = section.and_then(|node| bridges(node, folder, &resolve, &mut claims, problems));
        if let (Some(section), Some(backbone), Some(bridges)) = (section, &backbone, &bridges) {
            report_waits(section, backbone, bridges, problems);
        }
        let limits = Limits::read(&mut fields, bridges.as_deref().unwrap_or_default(), problems);
        let notices = NoticeConfig::read(&mut fields, folder, &resolve, problems);
        let log = sections::log(&mut fields, problems);
        let mappings = path(&mut fields, "mappings", MAPPINGS, folder, &resolve, problems);
        let schemas = path(&mut fields, "schemas", SCHEMAS, folder, &resolve, problems);
        let tables = present(&mut fields, "tables", TABLES, folder, &resolve, problems);
        let policy = path(&mut fields, "policy", POLICY, folder, &resolve, problems);
        let users = present(&mut fields, "users", USERS, folder, &resolve, problems);
        let policies = present(&mut fields, "policies", POLICIES, folder, &resolve, problems);
        fields.finish();
        report_conflicts(&claims, problems);
        Some(Self {
            domain: domain?,
            jurisdictions: jurisdictions?,
            backbone: backbone?,
            admin: admin?,
            bridges: bridges?,
            limits: limits?,
            notices: notices?,
            log: log?,
            mappings: mappings?,
            schemas: schemas?,
            tables: tables?,
            policy: policy?,
            users: users?,
            policies: policies?,
        })
    }

    /// What the embedded backbone is opened with.
    pub(crate) fn open_with(&self) -> EmbeddedConfig {
        self.backbone.open_with(&self.domain, self.limits.subscriptions())
    }

    /// The names of the bridges, in the order of the file.
    pub fn bridge_names(&self) -> Vec<&str> {
        self.bridges.iter().map(|(name, _)| &**name).collect()
    }
}

/// 1 to 63 of `a-z`, `0-9` and `also`; a letter or digit at both ends.
fn name(text: &str, span: Span, what: &str, also: &[char], problems: &Problems) -> Option<Arc<str>> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = text.starts_with(plain) && text.ends_with(plain);
    if text.len() <= MAX_NAME && ends && text.chars().all(|c| plain(c) || also.contains(&c)) {
        return Some(text.into());
    }
    let shown: String = text.chars().take(MAX_NAME).collect();
    let also: String = also.iter().flat_map(|c| [' ', *c]).collect();
    let law = format!("1 to {MAX_NAME} of a-z 0-9{also}, a letter or digit first and last");
    problems.report(span, "bad-name", format!("{shown:?} is not {what}: {law}"));
    None
}

fn domain(node: &Node, problems: &Problems) -> Option<Arc<str>> {
    name(node.string(problems)?, node.span, "a domain", &['.', '-'], problems)
}

fn jurisdictions(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<Vec<Arc<str>>> {
    let Some(node) = fields.optional("jurisdictions") else { return Some(Vec::new()) };
    let read: Vec<_> = node
        .list(problems)?
        .iter()
        .map(|item| name(item.string(problems)?, item.span, "a jurisdiction", &['-'], problems))
        .collect();
    read.into_iter().collect()
}

fn admin(node: &Node, folder: &Path, claims: &mut Vec<Claim>, problems: &Problems) -> Option<ServerConfig> {
    let mut fields = Fields::of(node, problems)?;
    let server = ServerConfig::read(&mut fields, folder, problems);
    fields.finish();
    let server = server?;
    claims.push(Claim { resource: Resource::Tcp(server.listen), by: "admin".to_owned(), span: node.span });
    Some(server)
}

/// `name: { kind: { ... } }`, at least one.
fn bridges(
    node: &Node,
    folder: &Path,
    resolve: &Resolve<'_>,
    claims: &mut Vec<Claim>,
    problems: &Problems,
) -> Option<Vec<NamedBridge>> {
    let entries = node.map(problems)?;
    if entries.is_empty() {
        problems.report(node.span, "empty", "no bridge: nothing could reach the gateway");
        return None;
    }
    let read: Vec<_> =
        entries.iter().map(|(key, section)| bridge(key, section, folder, resolve, claims, problems)).collect();
    read.into_iter().collect()
}

fn bridge(
    key: &Key,
    section: &Node,
    folder: &Path,
    resolve: &Resolve<'_>,
    claims: &mut Vec<Claim>,
    problems: &Problems,
) -> Option<NamedBridge> {
    let name = name(&key.name, key.span, "a bridge's name", &['-', '_'], problems);
    let config = registry::read(section, folder, resolve, problems)?;
    for resource in config.resources() {
        claims.push(Claim { resource, by: format!("bridge {:?}", key.name), span: section.span });
    }
    Some((name?, config))
}

/// Each bridge that promises its peers to keep for them what the store ends before.
fn report_waits(section: &Node, backbone: &BackboneConfig, bridges: &[NamedBridge], problems: &Problems) {
    let park_for = backbone.park_for();
    let entries = section.map(problems).unwrap_or_default();
    for ((key, _), (name, config)) in entries.iter().zip(bridges) {
        if config.waits_for() > park_for {
            let (waits, parks) = (config.waits_for().as_secs(), park_for.as_secs());
            let message = format!(
                "sessions of bridge {name:?} outlive their connections by {waits}s (session.max_expiry), and the store ends \
                 what nobody consumes after {parks}s (park_for)"
            );
            problems.report(key.span, "parked", message);
        }
    }
}

/// Each claim that another one before it is in the way of.
fn report_conflicts(claims: &[Claim], problems: &Problems) {
    for (at, claim) in claims.iter().enumerate() {
        if let Some(other) = claims[..at].iter().find(|other| other.resource.conflicts(&claim.resource)) {
            let message = format!("{} is claimed by {} already", claim.resource, other.by);
            problems.report(claim.span, "conflict", message);
        }
    }
}

/// What is named must be there; else what depends on it would fail for the wrong reason, or nothing would.
fn present(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: &str,
    folder: &Path,
    resolve: &Resolve<'_>,
    problems: &Problems,
) -> Option<PathBuf> {
    let named = fields.optional(key).map(|node| node.span);
    let path = path(fields, key, default, folder, resolve, problems)?;
    let there = if default.ends_with('/') { path.is_dir() } else { path.is_file() };
    match named {
        Some(span) if !there => {
            let what = if default.ends_with('/') { "folder" } else { "file" };
            problems.report(span, "unreadable", format!("there is no {what} {:?}", path.display().to_string()));
            None
        }
        _ => Some(path),
    }
}

fn path(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: &str,
    folder: &Path,
    resolve: &Resolve<'_>,
    problems: &Problems,
) -> Option<PathBuf> {
    match fields.optional(key) {
        Some(node) => Some(folder.join(node.substituted(resolve, problems)?)),
        None => Some(folder.join(default)),
    }
}
