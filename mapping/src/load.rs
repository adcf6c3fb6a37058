//! A set of files to [`Mappings`]: reads each, then what only the whole set shows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envelope::{Route, Shown};
use yaml::{Diagnostic, Diagnostics, File, Node, Span};

use crate::{
    Bridge, Context, Mappings, RouteInfo, Source,
    address::Index,
    egress::Egress,
    expr::Expr,
    file::{Action, Mapping, Reader},
    one_to_one::OneToOne,
    takers,
};

/// Compiles a set of mapping files. Either all of them load or none does, and the error then lists everything that is
/// wrong with any of them: each with file, line, column and a caret.
pub fn load(files: &[Source<'_>], context: &Context<'_>) -> Result<Mappings, Diagnostics> {
    let (mut found, mut read, mut egress) = (Vec::new(), Vec::new(), Vec::new());
    for source in files {
        let done = File::parse(source.path, source.text).and_then(|file| {
            let source = file.source().clone();
            match sends(file.root()) {
                true => file
                    .read(|root, problems| Egress::read(root, Reader { context, problems }))
                    .map(|mapping| egress.push((mapping, source))),
                false => file
                    .read(|root, problems| Mapping::read(root, Reader { context, problems }))
                    .map(|mapping| read.push((mapping, source))),
            }
        });
        found.extend(done.err().into_iter().flatten());
    }
    found.extend(same_names(&read, &egress));
    found.extend(takers::unkept(&read, &egress));
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
        None => {
            let all: Vec<_> = read.into_iter().map(|(mapping, _)| mapping).collect();
            let egress: Vec<_> = egress.into_iter().map(|(mapping, _)| mapping).collect();
            let named = |route: &Route, number| (Box::from(route.name()), number);
            let by_name = all.iter().zip(0..).map(|(mapping, number)| named(&mapping.route, number)).collect();
            let egress_by_name =
                egress.iter().zip(0..).map(|(mapping, number)| named(&mapping.route, number)).collect();
            let replies = all.iter().any(|mapping| mapping.terms.reply.is_some());
            let buries = all.iter().any(|mapping| mapping.terms.dead_letter_unproven || mapping.terms.keep_denied);
            let domain = context.domain.into();
            let through = |bridge: &Bridge<'_>| {
                let prefix = bridge.one_to_one?;
                Some((bridge.name.into(), OneToOne::new(context.domain, bridge.name, prefix)))
            };
            let shown = shown(&egress);
            let one_to_one = context.bridges.iter().filter_map(through).collect();
            Ok(Mappings { domain, all, bridges, by_name, replies, buries, one_to_one, egress, egress_by_name, shown })
        }
    }
}

/// What subscribers of bridges see.
fn shown(egress: &[Egress]) -> BTreeMap<Box<str>, Arc<[Shown]>> {
    let mut by_bridge = BTreeMap::<Box<str>, Vec<Shown>>::new();
    for mapping in egress.iter().filter(|mapping| mapping.to.shown) {
        by_bridge.entry(mapping.to.bridge.clone()).or_default().push(Shown {
            route: mapping.route.clone(),
            topic: mapping.filter.clone(),
            address: mapping.to.segments(),
            qos: mapping.to.qos(),
        });
    }
    by_bridge.into_iter().map(|(bridge, all)| (bridge, all.into())).collect()
}

/// Whether a file sends envelopes, and does not make them.
fn sends(root: &Node) -> bool {
    root.get("to").is_some() || root.get("from").is_some_and(|from| from.get("topic").is_some())
}

/// Another that is always asked first takes all of its messages.
fn shadowed(read: &[(Mapping, yaml::Source)], bridges: &BTreeMap<Box<str>, Index>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (mapping, source) in read {
        let takes_all = |number: usize| read[number].0.takes_all_of(mapping);
        let index = bridges.get(&mapping.from.bridge);
        let Some(first) = index.and_then(|index| index.shadow(&mapping.from.pattern, mapping.order, takes_all)) else {
            continue;
        };
        let (first, first_source) = &read[first];
        let place = place(first_source, first.from.address_at);
        let pattern = mapping.from.pattern.as_str();
        let rest = if first.keys.when.is_some() { " and this \"when\" lets in" } else { "" };
        let message =
            format!("no message gets here: {place}, of a lower \"order\", takes all that {pattern:?} matches{rest}");
        let help = match first.keys.when.is_some() {
            true => "give it the lower \"order\", or the other a \"when\" that leaves something to it",
            false => "give it the lower \"order\", or the other a \"when\"",
        };
        found.push(source.diagnostic(mapping.from.address_at, "unreachable", message).with_help(help));
    }
    found
}

/// Ledger, metrics and ids go by the name.
fn same_names(read: &[(Mapping, yaml::Source)], egress: &[(Egress, yaml::Source)]) -> Vec<Diagnostic> {
    let taking = read.iter().map(|(mapping, source)| (mapping.route.name(), mapping.name_at, source));
    let sending = egress.iter().map(|(mapping, source)| (mapping.route.name(), mapping.name_at, source));
    let mut seen = HashMap::<&str, (Span, &yaml::Source)>::new();
    let mut found = Vec::new();
    for (name, at, source) in taking.chain(sending) {
        match seen.get(name) {
            Some((first, first_source)) => {
                let place = place(first_source, *first);
                let message = format!("mapping {name:?} is already defined at {place}");
                found.push(source.diagnostic(at, "same-name", message));
            }
            None => {
                seen.insert(name, (at, source));
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
    /// The mappings, in the order of the files, then what takes the rest of a bridge.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = RouteInfo<'_>> {
        let files = self.all.iter().map(|mapping| RouteInfo {
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
            proofs: &mapping.proofs,
            replies: &mapping.reply_proofs,
            file: &mapping.path,
        });
        files.chain(self.one_to_one.values().map(OneToOne::info)).collect::<Vec<_>>().into_iter()
    }
}
