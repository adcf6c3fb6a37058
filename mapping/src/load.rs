//! A set of files to [`Mappings`]: reads each, then what only the whole set shows.

use std::collections::{BTreeMap, HashMap};

use yaml::{Diagnostic, Diagnostics, File, Span};

use crate::{
    Context, Mappings, RouteInfo, Source,
    address::Index,
    expr::Expr,
    file::{Action, Mapping, Reader},
};

/// Compiles a set of mapping files. Either all of them load or none does, and the error then lists everything that is
/// wrong with any of them: each with file, line, column and a caret.
pub fn load(files: &[Source<'_>], context: &Context<'_>) -> Result<Mappings, Diagnostics> {
    let (mut found, mut read) = (Vec::new(), Vec::new());
    for source in files {
        let mapping = File::parse(source.path, source.text).and_then(|file| {
            let mapping = file.read(|root, problems| Mapping::read(root, Reader { context, problems }))?;
            Ok((mapping, file.source().clone()))
        });
        match mapping {
            Ok(mapping) => read.push(mapping),
            Err(errors) => found.extend(errors),
        }
    }
    found.extend(same_names(&read));
    let mut bridges = BTreeMap::<Box<str>, Index>::new();
    for (number, (mapping, source)) in read.iter().enumerate() {
        let index = bridges.entry(mapping.from.bridge.clone()).or_default();
        if let Err(other) = index.add(&mapping.from.pattern, mapping.order, number) {
            let (first, first_source) = &read[other];
            let place = place(first_source, first.from.address_at);
            let message = format!("{:?} takes the same addresses as {place}", mapping.from.pattern.as_str());
            let help =
                "a message is taken by exactly one mapping: give one of them an \"order\"; the lower is asked first";
            found.push(source.diagnostic(mapping.from.address_at, "same-address", message).with_help(help));
        }
    }
    found.extend(shadowed(&read, &bridges));
    match Diagnostics::collect(found) {
        Some(errors) => Err(errors),
        None => Ok(Mappings {
            domain: context.domain.into(),
            all: read.into_iter().map(|(mapping, _)| mapping).collect(),
            bridges,
        }),
    }
}

/// Another that is always asked first takes all of its messages.
fn shadowed(read: &[(Mapping, yaml::Source)], bridges: &BTreeMap<Box<str>, Index>) -> Vec<Diagnostic> {
    let always = |number: usize| read[number].0.keys.when.is_none();
    let mut found = Vec::new();
    for (mapping, source) in read {
        let index = bridges.get(&mapping.from.bridge);
        let Some(first) = index.and_then(|index| index.shadow(&mapping.from.pattern, mapping.order, always)) else {
            continue;
        };
        let (first, first_source) = &read[first];
        let place = place(first_source, first.from.address_at);
        let pattern = mapping.from.pattern.as_str();
        let message =
            format!("no message gets here: {place}, of a lower \"order\", takes all that {pattern:?} matches");
        let help = "give it the lower \"order\", or the other a \"when\"";
        found.push(source.diagnostic(mapping.from.address_at, "unreachable", message).with_help(help));
    }
    found
}

/// Ledger, metrics and ids go by the name.
fn same_names(read: &[(Mapping, yaml::Source)]) -> Vec<Diagnostic> {
    let mut seen = HashMap::<&str, &(Mapping, yaml::Source)>::new();
    let mut found = Vec::new();
    for pair in read {
        let (mapping, source) = pair;
        match seen.get(mapping.route.name()) {
            Some((first, first_source)) => {
                let place = place(first_source, first.name_at);
                let message = format!("mapping {:?} is already defined at {place}", mapping.route.name());
                found.push(source.diagnostic(mapping.name_at, "same-name", message));
            }
            None => {
                seen.insert(mapping.route.name(), pair);
            }
        }
    }
    found
}

fn place(source: &yaml::Source, span: Span) -> String {
    let (line, column) = source.line_and_column(span.start);
    format!("{}:{line}:{column}", source.path())
}

// === impl Mappings ===

impl Mappings {
    /// The mappings, in the order of the files.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = RouteInfo<'_>> {
        self.all.iter().map(|mapping| RouteInfo {
            route: &mapping.route,
            bridge: &mapping.from.bridge,
            address: mapping.from.pattern.as_str(),
            topic: match &mapping.action {
                Action::Drop => None,
                Action::Envelope(plan) => Some(&plan.topic.text),
            },
            when: mapping.keys.when.as_ref().map(|guard| guard.expr.text()),
            identity: mapping.keys.identity.as_ref().map(Expr::text),
            ack: mapping.ack,
            file: &mapping.path,
        })
    }
}
