//! Loads a configuration with everything that it names, and proves that it fits together.
//!
//! Offline: reads files, and opens and binds nothing. What is wrong is collected from `gateway.yaml`, the schemas, the
//! policy and the mappings, and said at once.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use mapping::{AddressCheck, Bridge, Mappings, TableSource, Tables};
use policy::{KnownNames, PolicyConfig};
use schema::{Schema, Schemas};
use yaml::{Diagnostic, Diagnostics, File, Node};

use super::{
    Config, Contents, Guards, MAPPINGS, POLICIES, POLICY, SCHEMAS, TABLES, USERS, contents, files,
    scan::{Places, Scan, Stamp},
};
use crate::egress;

/// A configuration that holds: every file it names is read, valid and fits the others.
#[derive(Debug)]
pub struct Loaded {
    /// `gateway.yaml`.
    pub config: Config,
    /// The mapping files as plans.
    pub mappings: Arc<Mappings>,
    /// The schemas, by name.
    pub schemas: Arc<Schemas>,
    /// What mappings look up in, by name.
    pub tables: Tables,
    /// The policy file.
    pub policy: PolicyConfig,
    /// Who is known, and what they may do.
    pub guards: Guards,
    /// What all of it says.
    pub(crate) contents: Contents,
    /// Where all of it was read.
    pub(crate) places: Places,
    /// What the files looked like before they were read.
    pub(crate) seen: Scan,
}

/// A load that failed, or did not, and how to tell whether it is worth another try.
pub(crate) struct Attempt {
    /// Where the files are, as far as it is known.
    pub(crate) places: Places,
    /// What they looked like before they were read.
    pub(crate) seen: Scan,
    /// What they say.
    pub(crate) loaded: Result<Loaded, Diagnostics>,
}

/// What the other files are checked with, known even where `gateway.yaml` itself is wrong.
struct Named {
    domain: String,
    bridges: Vec<KnownBridge>,
    places: Places,
}

/// A bridge, as far as mappings are about it.
struct KnownBridge {
    name: String,
    sends: bool,
    shows: bool,
    replies: bool,
    exactly_once: bool,
    one_to_one: Option<String>,
}

/// The longest schema, in bytes.
const MAX_SCHEMA: u64 = 1 << 20;
/// The longest table, in bytes.
const MAX_TABLE: u64 = mapping::MAX_TABLE as u64;
/// The longest YAML file, in bytes.
const MAX_YAML: u64 = yaml::MAX_BYTES as u64;

/// Loads the configuration at `path`.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    attempt(&Places::usual(path), None).loaded
}

/// Loads the configuration again that was at `known`. Mappings are compiled for `domain`, if there is one, whatever the
/// file says: a gateway's name does not change while it runs.
pub(crate) fn attempt(known: &Places, domain: Option<&str>) -> Attempt {
    let path = &known.gateway;
    let gateway = Stamp::of(path);
    let file = files::read(path, MAX_YAML)
        .map_err(|error| files::unreadable(path, &error).into())
        .and_then(|text| File::parse(path.display().to_string(), text));
    let file = match file {
        Ok(file) => file,
        Err(errors) => {
            return Attempt { places: known.clone(), seen: known.scan_with(gateway), loaded: Err(errors) };
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let config = keep(file.read(|root, problems| Config::read(root, folder, problems)), &mut found);
    let mut named = match &config {
        Some(config) => Named::by(config, path),
        None => Named::guessed(file.root(), path),
    };
    if let Some(domain) = domain {
        domain.clone_into(&mut named.domain);
    }
    let seen = named.places.scan_with(gateway);
    let loaded = load_named(&file, config, &named, seen, found);
    Attempt { places: named.places, seen, loaded }
}

fn load_named(
    file: &File,
    config: Option<Config>,
    named: &Named,
    seen: Scan,
    mut found: Vec<Diagnostic>,
) -> Result<Loaded, Diagnostics> {
    let (schemas, digests) = schemas(&named.places.schemas, &mut found);
    let policy = policy(&named.places.policy, &mut found);
    let Places { users, policies, .. } = &named.places;
    let bridges: Vec<_> = named.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    let types: Vec<_> = schemas.names().collect();
    let names = KnownNames {
        bridges: Some(&bridges).filter(|_| config.is_some()).map(Vec::as_slice),
        schemas: Some(&types),
        performatives: Some(&mapping::PERFORMATIVES),
    };
    let guards = policy.as_ref().and_then(|policy| Guards::load(users, policies, policy, names, &mut found));
    let (tables, table_digests) = tables(&named.places.tables, &mut found);
    let mappings = mappings(named, config.as_ref(), &schemas, &tables, &mut found);
    if let (Some(config), Some(policy)) = (&config, &policy) {
        found.extend(exposed(file, config, policy));
        found.extend(unknown_bridges(&named.places.policy, config, policy));
    }
    if let (Some(config), Some(mappings)) = (&config, &mappings) {
        found.extend(circles(config, mappings));
    }
    if let (Some(guards), Some(mappings)) = (&guards, &mappings) {
        found.extend(not_permitted(&named.domain, guards, mappings));
    }
    match (Diagnostics::collect(found), config, policy.zip(guards), mappings) {
        (None, Some(config), Some((policy, guards)), Some(mappings)) => {
            let contents =
                Contents::of(file.root(), &mappings, digests, table_digests, (policy.clone(), guards.digest()));
            let (mappings, schemas) = (Arc::new(mappings), Arc::new(schemas));
            let places = named.places.clone();
            Ok(Loaded { config, mappings, schemas, tables, policy, guards, contents, places, seen })
        }
        (Some(all), ..) => Err(all),
        (None, ..) => {
            Err(Diagnostic::of_file(named.places.gateway.display().to_string(), "unreadable", "can't be loaded").into())
        }
    }
}

fn keep<T>(read: Result<T, Diagnostics>, found: &mut Vec<Diagnostic>) -> Option<T> {
    read.map_err(|all| found.extend(all)).ok()
}

/// Every `.json` file below `folder`, named by its path below it without the extension; and digests of what they say.
fn schemas(folder: &Path, found: &mut Vec<Diagnostic>) -> (Schemas, BTreeMap<String, u64>) {
    let (mut schemas, mut digests) = (Schemas::default(), BTreeMap::new());
    for file in files::read_all(folder, files::SCHEMAS, MAX_SCHEMA, found) {
        digests.insert(file.name.clone(), contents::digest(&file.text));
        match Schema::compile(&file.name, file.text.as_bytes()) {
            Ok(schema) => schemas.insert(schema),
            Err(error) => {
                found.push(Diagnostic::of_file(file.path, "bad-schema", error.detail));
                // Something of that name, so that the mappings that use it are not wrong because of it.
                if let Ok(anything) = Schema::compile(&file.name, b"true") {
                    schemas.insert(anything);
                }
            }
        }
    }
    (schemas, digests)
}

/// Every table below `folder`, named as schemas are; and digests of what they say.
fn tables(folder: &Path, found: &mut Vec<Diagnostic>) -> (Tables, BTreeMap<String, u64>) {
    if !folder.exists() {
        return (Tables::default(), BTreeMap::new());
    }
    let files = files::read_all(folder, files::TABLES, MAX_TABLE, found);
    let sources: Vec<_> =
        files.iter().map(|file| TableSource { path: &file.path, name: &file.name, text: &file.text }).collect();
    let (tables, wrong) = Tables::load(&sources);
    found.extend(wrong);
    (tables, files.iter().map(|file| (file.name.clone(), contents::digest(&file.text))).collect())
}

fn policy(path: &Path, found: &mut Vec<Diagnostic>) -> Option<PolicyConfig> {
    match files::read(path, MAX_YAML) {
        Ok(text) => keep(PolicyConfig::parse(&path.display().to_string(), &text), found),
        Err(error) => {
            found.push(files::unreadable(path, &error));
            None
        }
    }
}

/// Bridges that the policy says are somewhere, and that there are not.
fn unknown_bridges(path: &Path, config: &Config, policy: &PolicyConfig) -> Vec<Diagnostic> {
    let known = config.bridge_names();
    let unknown = policy.residency.bridges.keys().filter(|name| !known.contains(&&***name));
    let errors = unknown.map(|name| {
        let message = format!("residency.bridges: there is no bridge {name:?}");
        Diagnostic::of_file(path.display().to_string(), "unknown-bridge", message)
            .with_help(format!("bridges: {}", known.join(", ")))
    });
    errors.collect()
}

/// Mappings that send what no policy lets their bridge read: all of it would be refused.
fn not_permitted(domain: &str, guards: &Guards, mappings: &Mappings) -> Vec<Diagnostic> {
    let domain = domain.into();
    // who sees what is shown is asked itself
    let refused = mappings.senders().filter(|sender| !sender.shown).filter_map(|sender| {
        let principal = Arc::new(egress::principal_of(sender.bridge, &domain));
        let decision = guards.policies.may_open(&principal, sender.topic, sender.bridge);
        let what = || format!("subscribe to {:?}", sender.topic.as_str());
        let rejection = decision.into_result(&principal, what).err()?;
        let help =
            format!("permit (principal == Principal::{:?}, action == Action::\"subscribe\", resource);", principal.id);
        let message = format!("mapping {:?}: {}", sender.route.name(), rejection.detail);
        Some(Diagnostic::of_file(sender.file, "not-permitted", message).with_help(help))
    });
    refused.collect()
}

/// Mappings that send to where their bridge would take it in again, because its peer says of nothing where it has been.
fn circles(config: &Config, mappings: &Mappings) -> Vec<Diagnostic> {
    let deaf = config.bridges.iter().filter(|(_, bridge)| bridge.hears_itself());
    let errors = deaf.flat_map(|(name, bridge)| {
        let echoes = mappings.echoes(name).into_iter().filter(move |echo| !bridge.is_own(&echo.sends_to));
        echoes.map(move |echo| {
            let (sender, taker, to) = (echo.sender, echo.taker, &echo.sends_to);
            let message =
                format!("mapping {sender:?} sends to {to:?} of bridge {name:?}, from which {taker:?} takes it in");
            let help =
                format!("name what only the gateway publishes: own: [{to:?}] in the bridge, or send it elsewhere");
            Diagnostic::of_file(echo.file, "circle", message).with_help(help)
        })
    });
    errors.collect()
}

/// Listeners that anybody off this host could use without credentials, though nobody said that they are meant to.
fn exposed(file: &File, config: &Config, policy: &PolicyConfig) -> Vec<Diagnostic> {
    let open = config.bridges.iter().filter(|(_, bridge)| policy.anonymous && bridge.exposed_to_anonymous());
    let errors = open.map(|(name, _)| {
        let message = format!("bridge {name:?} listens off loopback, and the policy lets in peers without credentials");
        let help = "say anonymous: false in the policy, or allow_anonymous: true in the bridge if it is meant";
        Diagnostic::of_file(file.source().path(), "open-to-anybody", message).with_help(help)
    });
    errors.collect()
}

/// What mapping files may ask of this gateway.
const ABILITIES: mapping::Abilities = mapping::Abilities { last_values: true, later_acks: true, pass_through: true };

/// What says whether an address is one.
type Check<'c> = dyn Fn(&str) -> Result<(), String> + Sync + 'c;

/// What a bridge says of addresses to send to and to take from; nothing where the config itself is wrong.
fn checks_of<'c>(name: &str, config: Option<&'c Config>) -> [Box<Check<'c>>; 2] {
    let bridge = config.and_then(|config| config.bridges.iter().find(|(known, _)| **known == *name));
    [
        Box::new(move |address| bridge.map_or(Ok(()), |(_, bridge)| bridge.check_address(address))),
        Box::new(move |address| bridge.map_or(Ok(()), |(_, bridge)| bridge.check_source(address))),
    ]
}

fn mappings(
    named: &Named,
    config: Option<&Config>,
    schemas: &Schemas,
    tables: &Tables,
    found: &mut Vec<Diagnostic>,
) -> Option<Mappings> {
    let files = files::read_all(&named.places.mappings, files::MAPPINGS, MAX_YAML, found);
    let sources: Vec<_> = files.iter().map(|file| mapping::Source { path: &file.path, text: &file.text }).collect();
    let checks: Vec<_> = named.bridges.iter().map(|bridge| checks_of(&bridge.name, config)).collect();
    let bridges: Vec<_> = named.bridges.iter().zip(&checks).map(|(bridge, [to, from])| bridge.seen(to, from)).collect();
    let plain = mapping::Context::new(&named.domain, &bridges, schemas, tables);
    let context = mapping::Context { gateway: ABILITIES, ..plain };
    keep(mapping::load(&sources, &context), found)
}

// === impl Places ===

impl Places {
    /// Where the files are if `gateway.yaml` does not say.
    fn usual(gateway: &Path) -> Self {
        let at = |name| gateway.with_file_name(name);
        Self {
            gateway: gateway.to_owned(),
            mappings: at(MAPPINGS),
            schemas: at(SCHEMAS),
            tables: at(TABLES),
            policy: at(POLICY),
            users: at(USERS),
            policies: at(POLICIES),
        }
    }
}

// === impl KnownBridge ===

impl KnownBridge {
    /// As mapping files see it.
    fn seen<'a>(&'a self, to: &'a Check<'a>, from: &'a Check<'a>) -> Bridge<'a> {
        let Self { name, sends, shows, replies, exactly_once, one_to_one } = self;
        let (sends, shows, replies, exactly_once) = (*sends, *shows, *replies, *exactly_once);
        let (sends_to, takes_from) = (AddressCheck(to), AddressCheck(from));
        let one_to_one = one_to_one.as_deref();
        Bridge { name, sends, shows, replies, exactly_once, one_to_one, sends_to, takes_from }
    }
}

// === impl Named ===

impl Named {
    fn by(config: &Config, gateway: &Path) -> Self {
        let bridges = config.bridges.iter().map(|(name, config)| KnownBridge {
            name: name.to_string(),
            sends: config.sends(),
            shows: config.shows(),
            replies: config.replies(),
            exactly_once: config.takes_exactly_once(),
            one_to_one: config.one_to_one().map(str::to_owned),
        });
        let Config { mappings, schemas, tables, policy, users, policies, .. } = config;
        let places = Places {
            gateway: gateway.to_owned(),
            mappings: mappings.clone(),
            schemas: schemas.clone(),
            tables: tables.clone(),
            policy: policy.clone(),
            users: users.clone(),
            policies: policies.clone(),
        };
        Self { domain: config.domain.to_string(), bridges: bridges.collect(), places }
    }

    fn guessed(root: &Node, gateway: &Path) -> Self {
        let text = |key, default| gateway.with_file_name(root.get(key).and_then(Node::as_str).unwrap_or(default));
        let bridges = match root.get("bridges").map(|node| &node.kind) {
            // what it can do is not known, so nothing is wrong because of that
            Some(yaml::Kind::Map(entries)) => entries
                .iter()
                .map(|(key, _)| KnownBridge {
                    name: key.name.clone(),
                    sends: true,
                    shows: false,
                    replies: true,
                    exactly_once: false,
                    one_to_one: None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let places = Places {
            gateway: gateway.to_owned(),
            mappings: text("mappings", MAPPINGS),
            schemas: text("schemas", SCHEMAS),
            tables: text("tables", TABLES),
            policy: text("policy", POLICY),
            users: text("users", USERS),
            policies: text("policies", POLICIES),
        };
        let domain = root.get("domain").and_then(Node::as_str).unwrap_or("domain").to_owned();
        Self { domain, bridges, places }
    }
}
