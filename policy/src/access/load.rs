//! Reads the files of the folder `policies`: parsed, checked against the schema, and each policy named.

use std::{collections::BTreeMap, sync::Arc, thread};

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, Validator};
use envelope::Topic;
use miette::Diagnostic as _;
use yaml::{Diagnostic, Source, Span};

use super::{
    KnownNames, Policies,
    extent::{self, Exceeds, STACK_BYTES},
    schema,
    scope::Scoped,
};
use crate::config::AccessConfig;

/// A file of Cedar policies.
#[derive(Debug, Clone, Copy)]
pub struct PolicySource<'s> {
    /// As errors name it.
    pub path: &'s str,
    /// As decisions name it.
    pub name: &'s str,
    /// What it says.
    pub text: &'s str,
}

/// The most policies.
const MAX_POLICIES: usize = 10_000;
/// Where a policy's name stands: `@id("...")`.
const NAME: &str = "id";
/// The longest name.
const MAX_NAME: usize = 128;

// === impl Policies ===

impl Policies {
    /// Reads all files, for what the policy file declares. What is wrong is told, and left out of what is read: take it
    /// only if nothing is.
    pub fn load(sources: &[PolicySource<'_>], config: &AccessConfig) -> (Self, Vec<Diagnostic>) {
        Self::load_knowing(sources, config, KnownNames::default())
    }

    /// As [`Policies::load`], where it is known what else there is: names that nothing has are errors.
    pub fn load_knowing(
        sources: &[PolicySource<'_>],
        config: &AccessConfig,
        names: KnownNames<'_>,
    ) -> (Self, Vec<Diagnostic>) {
        // on a stack that whatever `extent` lets through fits into, whoever calls
        let loaded = thread::scope(|scope| {
            let roomy = thread::Builder::new().stack_size(STACK_BYTES);
            roomy.spawn_scoped(scope, || Self::load_here(sources, config, names)).ok()?.join().ok()
        });
        loaded.unwrap_or_else(|| {
            let message = "no thread could be had to read them".to_owned();
            (Self::default(), vec![Diagnostic::of_file("policies", "resources", message)])
        })
    }

    fn load_here(
        sources: &[PolicySource<'_>],
        config: &AccessConfig,
        names: KnownNames<'_>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut found = Vec::new();
        let mut all = PolicySet::new();
        let mut files = BTreeMap::new();
        for file in sources {
            let source = Source::new(file.path, file.text);
            for policy in parse(file, &source, &mut found) {
                let id = policy.id().clone();
                match all.add(policy) {
                    Ok(()) => _ = files.insert(id, source.clone()),
                    Err(_) => {
                        found.push(Diagnostic::of_file(file.path, "conflict", format!("two policies are called {id}")))
                    }
                }
            }
        }
        if all.num_of_policies() > MAX_POLICIES {
            let message = format!("{} policies, limit is {MAX_POLICIES}", all.num_of_policies());
            found.push(Diagnostic::of_file("policies", "too-many", message));
        }
        validate(&all, &files, config, names, &mut found);
        let mut scoped: Vec<_> = all.policies().cloned().map(|policy| Scoped::new(policy, config)).collect();
        scoped.sort_by(|a, b| a.policy.id().cmp(b.policy.id()));
        (Self::new(scoped, config.clone()), found)
    }
}

/// The policies of a file, each called `FILE#NAME`; without a name by its place, from 1.
fn parse(file: &PolicySource<'_>, source: &Source, found: &mut Vec<Diagnostic>) -> Vec<Policy> {
    if let Err(Exceeds { at, why }) = extent::check(file.text) {
        found.push(source.diagnostic(Span { start: at.start, end: at.end }, "too-large", why));
        return Vec::new();
    }
    let set: PolicySet = match file.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                let help = error.help().map(|help| help.to_string());
                found.push(diagnostic(source, error, "syntax", help));
            }
            return Vec::new();
        }
    };
    for template in set.templates() {
        let message = format!("{} has slots: templates are not supported", template.id());
        found.push(Diagnostic::of_file(file.path, "template", message));
    }
    // the parser calls them policy0, policy1, ... in the order of the file
    let mut named: Vec<_> = set
        .policies()
        .map(|policy| {
            let place: usize = policy.id().to_string().trim_start_matches("policy").parse().unwrap_or_default();
            (place, policy)
        })
        .collect();
    named.sort_by_key(|(place, _)| *place);
    let name = |(place, policy): (usize, &Policy)| {
        let name = policy.annotation(NAME).filter(|name| !name.is_empty());
        let name = name.map_or_else(|| (place + 1).to_string(), str::to_owned);
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let message = format!("a policy's name has at most {MAX_NAME} bytes and no control characters");
            found.push(Diagnostic::of_file(file.path, "bad-name", message));
        }
        policy.new_id(PolicyId::new(format!("{}#{name}", file.name)))
    };
    named.into_iter().map(name).collect()
}

/// Unknown entity types, attributes and actions, types that do not fit, and policies that can never apply.
fn validate(
    all: &PolicySet,
    files: &BTreeMap<PolicyId, Source>,
    config: &AccessConfig,
    names: KnownNames<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let schema = match schema::schema(config) {
        Ok(schema) => schema,
        Err(error) => {
            found.push(Diagnostic::of_file("policies", "schema", format!("no entity schema can be made: {error}")));
            return;
        }
    };
    let result = Validator::new(schema).validate(all, ValidationMode::Strict);
    let mut tell = |id: &PolicyId, error: &dyn miette::Diagnostic| {
        let Some(source) = files.get(id) else { return };
        let help = error.help().map(|help| help.to_string());
        found.push(diagnostic(source, error, "policy", help));
    };
    result.validation_errors().for_each(|error| tell(error.policy_id(), error));
    // a policy that never applies, or a look-alike, is no policy that anybody wants
    result.validation_warnings().for_each(|warning| tell(warning.policy_id(), warning));
    for policy in all.policies() {
        let Some(source) = files.get(policy.id()) else { continue };
        for uid in policy.entity_literals() {
            found.extend(names.check(&uid, config, source));
            let id = uid.id().unescaped();
            if uid.type_name().basename() == "Topic"
                && let Err(why) = Topic::new(id)
            {
                let at = source.text().find(id).filter(|_| !id.is_empty()).unwrap_or_default();
                let message = format!("Topic::{id:?} is no topic, so nothing is in it: {why}");
                found.push(source.diagnostic(Span { start: at, end: at + id.len() }, "bad-topic", message));
            }
        }
    }
}

fn diagnostic(source: &Source, error: &dyn miette::Diagnostic, code: &'static str, help: Option<String>) -> Diagnostic {
    let span = error.labels().and_then(|mut labels| labels.next());
    let (start, length) = span.map_or((0, 0), |span| (span.offset(), span.len()));
    let diagnostic = source.diagnostic(Span { start, end: start + length }, code, error.to_string());
    match help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

/// As a decision names it.
pub(super) fn name(id: &PolicyId) -> Arc<str> {
    id.to_string().into()
}
