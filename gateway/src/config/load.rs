//! Loads a configuration with everything that it names, and proves that it fits together.
//!
//! Offline: reads files, and opens and binds nothing. What is wrong is collected from `gateway.yaml`, the schemas, the
//! policy and the mappings, and said at once.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mapping::Mappings;
use policy::PolicyConfig;
use schema::{Schema, Schemas};
use yaml::{Diagnostic, Diagnostics, File, Node};

use super::{Config, files};

/// A configuration that holds: every file it names is read, valid and fits the others.
#[derive(Debug)]
pub struct Loaded {
    /// `gateway.yaml`.
    pub config: Config,
    /// The mapping files as plans.
    pub mappings: Arc<Mappings>,
    /// The schemas, by name.
    pub schemas: Arc<Schemas>,
    /// The policy file.
    pub policy: PolicyConfig,
}

/// What the other files are checked with, known even where `gateway.yaml` itself is wrong.
struct Named {
    domain: String,
    bridges: Vec<String>,
    mappings: PathBuf,
    schemas: PathBuf,
    policy: PathBuf,
}

/// The longest schema, in bytes.
const MAX_SCHEMA: u64 = 1 << 20;
/// The longest YAML file, in bytes: one more than is parsed, so that the parser says the limit.
const MAX_YAML: u64 = yaml::MAX_BYTES as u64 + 1;

/// Loads the configuration at `path`.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let shown = path.display().to_string();
    let text = files::read(path, MAX_YAML).map_err(|error| files::unreadable(path, &error))?;
    let file = File::parse(shown, text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let config = keep(file.read(|root, problems| Config::read(root, folder, problems)), &mut found);
    let named = match &config {
        Some(config) => Named::by(config),
        None => Named::guessed(file.root(), folder),
    };
    let schemas = schemas(&named.schemas, &mut found);
    let policy = policy(&named.policy, &mut found);
    let mappings = mappings(&named, &schemas, &mut found);
    match (Diagnostics::collect(found), config, policy, mappings) {
        (None, Some(config), Some(policy), Some(mappings)) => {
            Ok(Loaded { config, mappings: Arc::new(mappings), schemas: Arc::new(schemas), policy })
        }
        (Some(all), ..) => Err(all),
        (None, ..) => Err(Diagnostic::of_file(path.display().to_string(), "unreadable", "can't be loaded").into()),
    }
}

fn keep<T>(read: Result<T, Diagnostics>, found: &mut Vec<Diagnostic>) -> Option<T> {
    read.map_err(|all| found.extend(all)).ok()
}

/// Every `.json` file below `folder`, named by its path below it without the extension.
fn schemas(folder: &Path, found: &mut Vec<Diagnostic>) -> Schemas {
    let mut schemas = Schemas::default();
    for file in files::read_all(folder, &["json"], MAX_SCHEMA, found) {
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
    schemas
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

fn mappings(named: &Named, schemas: &Schemas, found: &mut Vec<Diagnostic>) -> Option<Mappings> {
    let files = files::read_all(&named.mappings, &["yaml", "yml"], MAX_YAML, found);
    let sources: Vec<_> = files.iter().map(|file| mapping::Source { path: &file.path, text: &file.text }).collect();
    let bridges: Vec<_> = named.bridges.iter().map(String::as_str).collect();
    let context = mapping::Context { domain: &named.domain, bridges: &bridges, schemas };
    keep(mapping::load(&sources, &context), found)
}

// === impl Named ===

impl Named {
    fn by(config: &Config) -> Self {
        Self {
            domain: config.domain.to_string(),
            bridges: config.bridges.iter().map(|(name, _)| name.to_string()).collect(),
            mappings: config.mappings.clone(),
            schemas: config.schemas.clone(),
            policy: config.policy.clone(),
        }
    }

    fn guessed(root: &Node, folder: &Path) -> Self {
        let text = |key, default| folder.join(root.get(key).and_then(Node::as_str).unwrap_or(default));
        let bridges = match root.get("bridges").map(|node| &node.kind) {
            Some(yaml::Kind::Map(entries)) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
            _ => Vec::new(),
        };
        Self {
            domain: root.get("domain").and_then(Node::as_str).unwrap_or("domain").to_owned(),
            bridges,
            mappings: text("mappings", "mappings/"),
            schemas: text("schemas", "schemas/"),
            policy: text("policy", "policy.yaml"),
        }
    }
}
