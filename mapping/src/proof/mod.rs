//! Proves a mapping at load: that what it reads is there, and that what it makes conforms to the envelope's schema.
//!
//! The input schema becomes a [`Type`], `expr::infer` says what each expression makes of it, and `fits` holds that to the
//! envelope's schema. What is proven here never fails there; what is not is checked at run time, and `check` says why.

mod fits;
mod head;
#[cfg(test)]
mod head_tests;
mod json_schema;
mod number;
mod place;
mod report;
mod sample;
mod sent;
#[cfg(test)]
mod sent_tests;
mod text;
mod types;

#[cfg(test)]
mod tests;

use schema::Schema;
use yaml::{Problems, Span};

use crate::{
    codec::Codec,
    expr::{Env, Expr, Inferred},
    file::Action,
    keys::Keys,
    plan::Plan,
};

#[cfg(test)]
pub(crate) use json_schema::Document;
pub(crate) use json_schema::number_literal;
pub(crate) use number::{EXACT, Held, Number};
pub(crate) use place::{ATTRIBUTE, Place};
use report::Made;
pub use report::{FieldProof, Verdict};
pub(crate) use sample::Samples;
pub(crate) use sent::{Parts, prove_sent};
pub(crate) use text::Text;
pub(crate) use types::{Bools, Field, Kinds, List, Object, Rest, Type};

/// What a mapping is proven with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'g> {
    /// Every payload that the mapping may get.
    pub(crate) payload: &'g Type,
    /// The schema that each of them conforms to.
    pub(crate) schema: Option<&'g Schema>,
    /// Where `when` stands, or the file begins.
    pub(crate) when: Span,
    /// Where `envelope` stands.
    pub(crate) envelope: Span,
    /// What is required may be checked at run time.
    pub(crate) unproven: bool,
}

#[derive(Debug)]
struct Proof<'p> {
    given: Given<'p>,
    problems: &'p Problems,
}

/// Every payload that a codec may give, as far as a schema lets it through.
pub(crate) fn payload(codec: Codec, schema: Option<&Schema>) -> Type {
    let of = codec.shape();
    match schema {
        Some(schema) => of.meet(&json_schema::Document::of(schema.json().root()).admits()),
        None => of,
    }
}

/// Proves a mapping and makes whole numbers whole; what is wrong is reported. The result is for `check`.
pub(crate) fn prove(
    given: Given<'_>,
    keys: &mut Keys,
    action: &mut Action,
    problems: &Problems,
) -> Option<Vec<FieldProof>> {
    let before = problems.len();
    let proof = Proof { given, problems };
    let mut fields = Vec::new();
    let mut env = proof.keys(keys, &mut fields)?;
    if let Action::Envelope(plan) = action {
        proof.items(keys, &mut env, &mut fields);
        proof.plan(plan, &env, &mut fields);
    }
    (problems.len() == before).then_some(fields)
}

// === impl Proof ===

impl Proof<'_> {
    /// `let` but for what is made of the item, and `when`: what is known once a message is taken. `None`: it never is.
    /// What is known of `when` itself is put to `found`.
    fn keys(&self, keys: &mut Keys, found: &mut Vec<FieldProof>) -> Option<Env> {
        let mut env = Env::new(self.given.payload.clone());
        env.lets = vec![Inferred::ANYTHING; keys.lets.all.len()];
        let once = keys.lets.once.clone();
        for number in &once {
            keys.lets.all[*number].expr.mark_whole(&env);
            env.lets[*number] = keys.lets.all[*number].expr.infer_guard(&env).0;
        }
        let Some(guard) = &mut keys.when else {
            self.lets(keys, &once, &mut env);
            return Some(env);
        };
        guard.expr.mark_whole(&env);
        found.push(self.key("when", &guard.expr.infer_guard(&env).0));
        let taken = match guard.expr.assumed(&env) {
            Ok(taken) => taken,
            Err(why) => {
                self.never_taken(&guard.expr, &why);
                return None;
            }
        };
        // names that read the payload know more now, and whatever was said of a name itself holds for it
        let mut env = taken.clone();
        env.lets = vec![Inferred::ANYTHING; keys.lets.all.len()];
        self.lets(keys, &once, &mut env);
        for (name, taken) in env.lets.iter_mut().zip(&taken.lets) {
            name.of = name.of.meet(&taken.of);
            if taken.doubts.is_empty() {
                name.doubts.clear();
            }
        }
        Some(env)
    }

    fn never_taken(&self, guard: &Expr, why: &[crate::expr::Problem]) {
        let message = "is true for no message that \"from.schema\" lets in: the mapping is unreachable";
        match why.first() {
            Some(first) => {
                let help = first.help.clone().unwrap_or_else(|| first.message.clone());
                self.problems.report_with_help(guard.place(&first.at), "never-true", message, help);
            }
            None => self.problems.report(self.given.when, "never-true", message),
        }
    }

    fn lets(&self, keys: &mut Keys, numbers: &[usize], env: &mut Env) {
        let guards = keys.when.as_ref().map(|guard| guard.lets.clone()).unwrap_or_default();
        for number in numbers {
            let expr = &mut keys.lets.all[*number].expr;
            expr.mark_whole(env);
            let (inferred, errors) = match guards.contains(number) {
                true => expr.infer_guard(env),
                false => expr.infer(env, None),
            };
            self.report(expr, errors);
            env.lets[*number] = inferred;
        }
    }

    /// `identity`, `each`, and the names that are made of the item.
    fn items(&self, keys: &mut Keys, env: &mut Env, found: &mut Vec<FieldProof>) {
        if let Some(identity) = &mut keys.identity {
            let mut inferred = self.infer(identity, env, Kinds::WRITABLE);
            if inferred.of.text.as_ref().is_some_and(place::may_be_empty) {
                inferred.doubt(identity, "may be empty");
            }
            found.push(self.key("identity", &inferred));
        }
        if let Some(each) = &mut keys.each {
            let over = self.infer(&mut each.expr, env, Kinds::LIST);
            found.push(self.key("each", &over));
            env.item = Some(over.of.list.map_or(Type::NEVER, |list| list.items()));
        }
        let per_item = keys.lets.per_item.clone();
        self.lets(keys, &per_item, env);
    }

    fn plan(&self, plan: &mut Plan, env: &Env, found: &mut Vec<FieldProof>) {
        found.extend(self.head(plan, env));
        if plan.body.is_none() && !plan.goes_through() {
            // bytes, of which nothing is required
            return;
        }
        let through = env.item.clone().unwrap_or_else(|| env.payload.clone());
        if let Some(body) = &mut plan.body {
            for expr in body.exprs_mut() {
                expr.mark_whole(env);
            }
        }
        let schema = plan.schema.clone();
        let root = schema.as_ref().map(|schema| schema.json().root());
        let conforms = plan.body.is_none() && env.item.is_none() && self.is_held_to(schema.as_ref());
        let made = Made { field: "envelope.data", body: plan.body.as_ref(), through: &through, root, conforms };
        found.extend(report::fields(self, made, env).0);
    }

    /// The payload was held to the same schema, word by word.
    fn is_held_to(&self, schema: Option<&Schema>) -> bool {
        self.given.schema.zip(schema).is_some_and(|(from, to)| from.json().as_str() == to.json().as_str())
    }

    fn infer(&self, expr: &mut Expr, env: &Env, wanted: Kinds) -> Inferred {
        expr.mark_whole(env);
        let (inferred, errors) = expr.infer(env, Some(wanted));
        self.report(expr, errors);
        inferred
    }

    fn report(&self, expr: &Expr, errors: Vec<crate::expr::Problem>) {
        for error in errors {
            let at = expr.place(&error.at);
            match error.help {
                Some(help) => self.problems.report_with_help(at, error.code, error.message, help),
                None => self.problems.report(at, error.code, error.message),
            }
        }
    }
}
