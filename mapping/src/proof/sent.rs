//! What is proven of what a mapping sends: the parts of `to`, and of a `reply`.
//!
//! A part is held to what its place takes: an address, a header, a key, a status, a format. What the data means to whoever gets
//! it is not known here.

use yaml::Span;

use crate::{
    body::Body,
    codec::Codec,
    egress::To,
    expr::{Env, Expr},
    keys::Keys,
    template::{Part, Template},
};

use super::{
    FieldProof, Given, Kinds, Problems, Proof, Type, Verdict,
    place::{self, Place},
    report::{self, Made},
};

/// Collects what is known of the parts of one message.
#[derive(Debug)]
pub(crate) struct Parts<'p> {
    proof: Proof<'p>,
    env: Env,
    found: Vec<FieldProof>,
}

/// Proves what a mapping makes of envelopes; what is wrong is reported. `given.envelope` is where `to` stands.
pub(crate) fn prove_sent(
    given: Given<'_>,
    keys: &mut Keys,
    to: &mut To,
    problems: &Problems,
) -> Option<Vec<FieldProof>> {
    let before = problems.len();
    let proof = Proof { given, problems };
    let mut found = Vec::new();
    let env = proof.keys(keys, &mut found)?;
    let mut parts = Parts { proof, env, found };
    to.prove(&mut parts);
    (problems.len() == before).then_some(parts.found)
}

// === impl Parts ===

impl<'p> Parts<'p> {
    /// Of a message that reads nothing but what is `given`.
    pub(crate) fn new(given: Given<'p>, problems: &'p Problems) -> Self {
        Self { env: Env::new(given.payload.clone()), proof: Proof { given, problems }, found: Vec::new() }
    }

    /// What was found; the parts are done with.
    pub(crate) fn finish(self) -> Vec<FieldProof> {
        self.found
    }

    /// What follows is made only where the condition is true.
    pub(crate) fn only_if(&mut self, when: &mut Expr) {
        when.mark_whole(&self.env);
        match when.assumed(&self.env) {
            Ok(env) => self.env = env,
            Err(why) => self.proof.never_taken(when, &why),
        }
    }

    /// A text with values in it. What is the same in every message is no part that needs a proof.
    pub(crate) fn text(&mut self, field: &str, template: &mut Template, place: Place) {
        let mut doubts = Vec::new();
        let around = match template {
            Template::Literal(_) => return,
            Template::Whole(_) => false,
            Template::Mixed(parts) => parts.iter().any(|part| matches!(part, Part::Text(_))),
        };
        for expr in template.exprs_mut() {
            let (of, why) = self.value(expr, Kinds::WRITABLE);
            doubts.extend(why);
            if let Some(unfit) = place::unfit(&of, place, around) {
                doubts.push(format!("{}: {unfit}", expr.text()));
            }
        }
        self.known(field, doubts);
    }

    /// The status of a reply, from one to another.
    pub(crate) fn status(&mut self, field: &str, expr: &mut Expr, range: &std::ops::RangeInclusive<u16>) {
        let (of, mut doubts) = self.value(expr, Kinds::NUMBER.and(Kinds::TEXT));
        match place::status(&of, range) {
            Ok(None) => {}
            Ok(Some(why)) => doubts.push(format!("{}: {why}", expr.text())),
            Err(why) => self.never(expr.place(&(0..expr.text().len())), format!("{field}: {why}")),
        }
        self.known(field, doubts);
    }

    /// A value, in a format.
    pub(crate) fn body(&mut self, at: &str, body: &mut Body, codec: Codec) {
        for expr in body.exprs_mut() {
            expr.mark_whole(&self.env);
        }
        let field = format!("{at}.{}", if body.is_whole_payload() { "encode" } else { "body" });
        let through = Type::ANY;
        let made = Made { field: &field, body: Some(body), through: &through, root: None, conforms: false };
        let (rows, of) = report::fields(&self.proof, made, &self.env);
        self.found.extend(rows);
        let unfit = match place::format(&of, codec) {
            Ok(None) => return,
            Ok(Some(why)) => why,
            Err(why) => {
                self.never(body.place().unwrap_or(self.proof.given.envelope), format!("{field}: {why}"));
                return;
            }
        };
        self.known(&format!("{at}.encode"), vec![unfit]);
    }

    /// A text template: `values` are what it reads by name, `paths` what it reads of them.
    pub(crate) fn laid<'e>(&mut self, at: &str, reads: impl Iterator<Item = &'e Expr>) {
        let mut doubts = Vec::new();
        for expr in reads {
            let (inferred, errors) = expr.infer(&self.env, None);
            self.proof.report(expr, errors);
            doubts.extend(inferred.doubts.into_iter().map(|doubt| doubt.why));
        }
        doubts.push("what a template lays out is known when it is laid out".to_owned());
        self.known(&format!("{at}.template"), doubts);
    }

    fn value(&self, expr: &mut Expr, wanted: Kinds) -> (Type, Vec<String>) {
        let inferred = self.proof.infer(expr, &self.env, wanted);
        (inferred.of, inferred.doubts.into_iter().map(|doubt| doubt.why).collect())
    }

    fn never(&self, at: Span, message: String) {
        self.proof.problems.report(at, "never-fits", message);
    }

    fn known(&mut self, field: &str, mut doubts: Vec<String>) {
        let mut seen = std::collections::BTreeSet::new();
        doubts.retain(|doubt| seen.insert(doubt.clone()));
        let verdict = if doubts.is_empty() { Verdict::Proven } else { Verdict::AtRunTime(doubts) };
        match self.found.iter_mut().find(|known| known.field == field) {
            Some(known) => known.verdict = verdict,
            None => self.found.push(FieldProof { field: field.to_owned(), verdict }),
        }
    }
}
