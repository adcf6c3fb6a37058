//! Where a compiled condition answers, it answers as Cedar does.

use std::sync::Arc;

use cedar_policy::PolicySet;
use envelope::{Data, Envelope};
use proptest::prelude::*;

use super::{compile::MAX_DEPTH, *};
use crate::access::{
    Decision, NO_PERFORMATIVE, Policies, Question,
    request::fields,
    scope::{Resource, Scoped},
    tests::{ada, config, message},
};

/// What is compiled says of the one policy, and what Cedar says.
fn both(condition: &str, envelope: &Envelope) -> (Option<Option<bool>>, Decision) {
    let text = format!("permit(principal, action, resource) when {{ {condition} }};");
    let policy: PolicySet = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let config = config();
    let scoped: Vec<_> = policy.policies().map(|policy| Scoped::new(policy.clone(), &config)).collect();
    let principal = Arc::new(ada());
    let question = Question {
        principal: &principal,
        action: Action::of(envelope),
        resource: Resource::Topic(envelope.subject.as_str()),
        schema: Some(&envelope.kind),
        performative: Some(envelope.performative.as_deref().unwrap_or(NO_PERFORMATIVE)),
        bridge: Some("web"),
    };
    let fields = fields(&envelope.data, &config).unwrap();
    let [topic, schema, performative, bridge] = question.texts();
    let action = question.action;
    let world = World { principal: &principal, action, topic, schema, performative, bridge, fields: &fields };
    let own = scoped[0].condition.as_ref().map(|condition| condition.holds(&world));
    let policies = Policies::new(scoped, config);
    let all: Vec<_> = policies.scoped.iter().collect();
    (own, policies.decide_by(&question, &all, Some(envelope)))
}

fn order(data: &str) -> Envelope {
    let data = Data::Opaque(data.to_owned().into());
    Envelope { data, performative: Some("request".into()), ..message("plant/press", "market/rfp@v1.0.0", "{}") }
}

#[test]
fn what_policies_usually_say_is_answered_without_cedar() {
    let full = order(r#"{"amount":100,"price":12.5,"order":{"note":"ok then"}}"#);
    for (condition, holds) in [
        ("context.data has amount && context.data.amount <= principal.limit", true),
        ("context.data has amount && context.data.amount > context.ceiling", false),
        ("context.data.amount + 1 > principal.limit", true),
        ("context.data.amount * 2 - 1 == 199", true),
        ("-1 < 0", true),
        ("context.data.price.lessThan(decimal(\"12.5\"))", false),
        ("context.data.price.lessThanOrEqual(decimal(\"12.5\"))", true),
        ("context.data.price.greaterThan(decimal(\"-0.0001\"))", true),
        ("context.data.price.greaterThanOrEqual(decimal(\"12.5001\"))", false),
        ("context.data.price == decimal(\"12.50\")", true),
        ("context.data.note like \"ok*n\"", true),
        ("context.data.note like \"*\\*\"", false),
        ("[\"ok then\", \"no\"].contains(context.data.note)", true),
        ("principal in Role::\"buyer\" && principal == Principal::\"ada\"", true),
        ("principal in [Role::\"seller\", Domain::\"plant-a\"]", true),
        ("action in Action::\"send\" && action == Action::\"request\"", true),
        ("resource in Topic::\"plant\" && resource.name like \"*/press\"", true),
        ("context.schema in Schema::\"market\" && context.schema in Schema::\"market/rfp\"", true),
        ("context.performative == Performative::\"request\" && context.bridge != Bridge::\"floor\"", true),
        ("if principal has share then false else context.night", true),
        ("!(principal.trust >= 51 || principal.domain == \"plant-b\")", true),
        ("principal.proof == 1", false),
    ] {
        let (own, cedar) = both(condition, &full);
        assert_eq!((own, cedar.is_permitted()), (Some(Some(holds)), holds), "{condition}");
    }
}

#[test]
fn what_fails_or_reads_the_clock_is_left_to_cedar() {
    for condition in [
        "context.data.amount > 1",
        "9223372036854775807 + 1 > 0",
        "principal.share == 1",
        "context.data has amount || principal.limit",
        "decimal(\"1.5\") < 3",
        "principal.limit.lessThan(decimal(\"1.0\"))",
        "if principal.limit then true else true",
    ] {
        let (own, cedar) = both(condition, &order("{}"));
        assert_eq!(own.flatten(), None, "{condition}");
        assert!(matches!(cedar, Decision::Undecided(Some(_), _)), "{condition}: {cedar:?}");
    }
    for condition in ["context.time > datetime(\"2020-01-01\")", "context has data", "[[1]].contains([1])"] {
        assert_eq!(both(condition, &order("{}")).0, None, "{condition}");
    }
    let long = "true && ".repeat(MAX_DEPTH) + "true";
    assert_eq!(both(&long, &order("{}")).0, None, "a stack is not to be used up");
}

/// Terms of all kinds, some of which fit together and some of which fail.
fn terms() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "7",
        "-100",
        "9223372036854775807",
        "decimal(\"12.5\")",
        "\"ok\"",
        "[\"ok\",\"no\"]",
        "principal",
        "resource",
        "action",
        "principal.limit",
        "principal.team",
        "principal.share",
        "principal.trust",
        "principal.jurisdiction",
        "principal has limit",
        "principal has share",
        "resource.name",
        "context.ceiling",
        "context.night",
        "context.schema",
        "context.bridge",
        "context.performative",
        "context.data.amount",
        "context.data.price",
        "context.data.note",
        "context.data has amount",
        "context.data has price",
        "principal in Role::\"buyer\"",
        "principal in Principal::\"ada\"",
        "principal in Topic::\"ada\"",
        "resource in [Topic::\"plant\", Topic::\"plan\"]",
        "resource in Topic::\"plant/press\"",
        "context.schema in Schema::\"market/rfp\"",
        "context.schema in Schema::\"market/rf\"",
        "action in Action::\"send\"",
        "Role::\"buyer\"",
        "Topic::\"plant/press\"",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operators = vec!["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*"];
        let functions = vec!["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "contains"];
        prop_oneof![
            6 => (two.clone(), prop::sample::select(operators)).prop_map(|((a, b), op)| format!("(({a}) {op} ({b}))")),
            2 => (two, prop::sample::select(functions)).prop_map(|((a, b), name)| format!("({a}).{name}({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => (inner.clone(), "[ok*]{0,4}").prop_map(|(a, pattern)| format!("(({a}) like \"{pattern}\")")),
            1 => (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("(if ({a}) then ({b}) else ({c}))")),
        ]
    })
}

fn any_order() -> impl Strategy<Value = Envelope> {
    let amount = prop::option::of(prop_oneof![-200..200_i64, Just(i64::MAX)]);
    let price = prop::option::of(prop::sample::select(vec!["12.5", "-0.0001", "12.4999"]));
    let note = prop::option::of("[ok]{0,4}");
    (amount, price, note).prop_map(|(amount, price, note)| {
        let amount = amount.map(|amount| format!("\"amount\":{amount}"));
        let price = price.map(|price| format!("\"price\":{price}"));
        let note = note.map(|note| format!("\"order\":{{\"note\":\"{note}\"}}"));
        let members: Vec<_> = [amount, price, note].into_iter().flatten().collect();
        order(&format!("{{{}}}", members.join(",")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn where_it_answers_it_answers_as_cedar_does(condition in terms(), envelope in any_order()) {
        let (own, cedar) = both(&condition, &envelope);
        match own.flatten() {
            Some(true) => prop_assert!(matches!(cedar, Decision::Permitted(_)), "{}: {:?}", condition, cedar),
            Some(false) => prop_assert_eq!(cedar, Decision::NotPermitted, "{}", condition),
            None => {}
        }
    }

    #[test]
    fn a_pattern_matches_what_cedar_matches(text in "[ab*é]{0,6}", pattern in "[ab*é]{0,6}") {
        let elements: Vec<_> = pattern.chars().map(|char| (char != '*').then_some(char)).collect();
        // by all ways to split
        fn matches(text: &str, pattern: &[Option<char>]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((Some(char), rest)) => text.strip_prefix(*char).is_some_and(|text| matches(text, rest)),
                Some((None, rest)) => text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(&text[at..], rest)),
            }
        }
        prop_assert_eq!(is_like(&text, &elements), matches(&text, &elements));
    }
}
