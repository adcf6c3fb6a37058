//! What is proven of an envelope beside its data: what names it and how many there are, its topic, each attribute.
//!
//! What a file does not say itself (time, source, trace) the gateway says for every message, and there is nothing to prove.

use crate::{
    expr::{Env, Expr},
    plan::{Head, Plan},
    template::{Part, Template},
};

use super::{
    FieldProof, Inferred, Kinds, Proof, Text, Verdict,
    place::{self, Place},
    report::written,
};

// === impl Proof ===

impl Proof<'_> {
    /// `when`, `identity` and `each`, by what was inferred of them.
    pub(super) fn key(&self, field: &str, inferred: &Inferred) -> FieldProof {
        known(field, inferred.doubts.iter().map(|doubt| doubt.why.clone()).collect())
    }

    /// What a file says of an envelope but for its data, in the order of the manual.
    pub(super) fn head(&self, plan: &mut Plan, env: &Env) -> Vec<FieldProof> {
        let (schema, expires) = (plan.schema.is_some(), plan.expires.is_some());
        let mut found: Vec<FieldProof> = Vec::new();
        for Head { field, template, place, words } in plan.heads_mut() {
            let doubts = match words {
                Some(words) => self.word(field, template, words, env),
                None => self.placed(field, template, place, env),
            };
            match found.iter_mut().find(|proof| proof.field == field) {
                Some(FieldProof { verdict: Verdict::AtRunTime(before), .. }) => {
                    let new: Vec<_> = doubts.into_iter().filter(|doubt| !before.contains(doubt)).collect();
                    before.extend(new);
                }
                Some(proof) => *proof = known(field, doubts),
                None => found.push(known(field, doubts)),
            }
        }
        // the same for every message
        let fixed = [("envelope.schema", schema), ("envelope.expires", expires)];
        found.extend(fixed.into_iter().filter(|(_, said)| *said).map(|(field, _)| known(field, Vec::new())));
        found
    }

    /// A text of any words: each value that is put into it must fit there.
    fn placed(&self, field: &str, template: &mut Template, place: Place, env: &Env) -> Vec<String> {
        let (mut first, around) = (begins_with_value(template), has_text(template));
        let mut doubts = Vec::new();
        let wanted = place.kinds(matches!(template, Template::Whole(_)));
        for expr in template.exprs_mut() {
            let inferred = self.infer(expr, env, wanted);
            doubts.extend(inferred.doubts.iter().map(|doubt| doubt.why.clone()));
            let first = std::mem::take(&mut first);
            match place::never(&inferred.of, place, around) {
                Some(why) => self.never_fits(field, expr, &why),
                None => doubts.extend(
                    place::unfit(&inferred.of, place, around)
                        .or_else(|| place::reserved(&inferred.of, place).filter(|_| first))
                        .map(|why| format!("{}: {why}", expr.text())),
                ),
            }
        }
        doubts
    }

    /// A text that is one of so many words.
    fn word(&self, field: &str, template: &mut Template, words: &[&str], env: &Env) -> Vec<String> {
        let (mut doubts, mut of) = (Vec::new(), Text::one(""));
        let mut put = |expr: &mut Expr| {
            let inferred = self.infer(expr, env, Kinds::WRITABLE);
            doubts.extend(inferred.doubts.iter().map(|doubt| doubt.why.clone()));
            written(&inferred.of)
        };
        match &mut *template {
            // read and held to the words already
            Template::Literal(_) => return Vec::new(),
            Template::Whole(expr) => of = put(expr),
            Template::Mixed(parts) => {
                for part in parts {
                    let part = match part {
                        Part::Text(text) => Text::one(text),
                        Part::Value(expr) => put(expr),
                    };
                    of = of.then(&part);
                }
            }
        }
        let is_one = |text: &str| words.contains(&text);
        match &of.only {
            Some(only) if only.iter().all(|text| is_one(text)) => {}
            Some(only) => {
                let other =
                    only.iter().find(|text| !is_one(text)).map(|text| text.chars().take(64).collect::<String>());
                let why = format!("may be {:?}, which is none of {}", other.unwrap_or_default(), words.join(", "));
                match (only.iter().any(|text| is_one(text)), template.exprs_mut().first()) {
                    (false, Some(expr)) => {
                        self.never_fits(field, expr, &format!("this never is one of {}", words.join(", ")));
                    }
                    (false, None) | (true, _) => doubts.push(why),
                }
            }
            None => doubts.push(format!("may be none of {}", words.join(", "))),
        }
        doubts
    }

    fn never_fits(&self, field: &str, expr: &Expr, why: &str) {
        let at = expr.place(&(0..expr.text().len()));
        self.problems.report(at, "never-fits", format!("{field}: {why}"));
    }
}

fn known(field: &str, mut doubts: Vec<String>) -> FieldProof {
    let mut seen = std::collections::BTreeSet::new();
    doubts.retain(|doubt| seen.insert(doubt.clone()));
    let verdict = if doubts.is_empty() { Verdict::Proven } else { Verdict::AtRunTime(doubts) };
    FieldProof { field: field.to_owned(), verdict }
}

fn begins_with_value(template: &Template) -> bool {
    match template {
        Template::Literal(_) => false,
        Template::Whole(_) => true,
        Template::Mixed(parts) => matches!(parts.first(), Some(Part::Value(_))),
    }
}

fn has_text(template: &Template) -> bool {
    match template {
        Template::Literal(_) => true,
        Template::Whole(_) => false,
        Template::Mixed(parts) => parts.iter().any(|part| matches!(part, Part::Text(_))),
    }
}
