mod inbox;

use std::sync::{Arc, LazyLock};

use envelope::{Attribute, Conversation, EnvelopeId, RejectKind, Topic};
use proptest::prelude::*;

use super::{rules::what, *};
use crate::{
    PolicyConfig,
    tests::world::{DOMAIN, envelope as plain},
};

const DECLARED: &str = "access:\n  attributes: { limit: integer, team: text, share: decimal }\n  \
                        data: { amount: integer, price: decimal, note: { type: text, at: order.note } }\n  \
                        values: { ceiling: 500, night: true }\n";

pub(super) fn config() -> AccessConfig {
    PolicyConfig::parse("policy.yaml", DECLARED).unwrap().access
}

fn load(text: &str) -> Result<Policies, String> {
    let source = PolicySource { path: "policies/a.cedar", name: "a", text };
    let (policies, found) = Policies::load(&[source], &config());
    match yaml::Diagnostics::collect(found) {
        None => Ok(policies),
        Some(all) => Err(all.to_string()),
    }
}

fn policies(text: &str) -> Policies {
    load(text).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn ada() -> Principal {
    let attributes = [("limit".into(), Attribute::Integer(100)), ("team".into(), Attribute::Text("press".into()))];
    Principal {
        roles: vec!["buyer".into(), "operator".into()],
        trust: 50,
        attributes: attributes.into(),
        ..Principal::new("ada", DOMAIN)
    }
}

pub(super) fn message(topic: &str, kind: &str, data: &str) -> Envelope {
    let id = EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
    Envelope { subject: Topic::new(topic).unwrap(), kind: kind.into(), ..plain(id, data.as_bytes()) }
}

fn on(topic: &str) -> Envelope {
    message(topic, "mesh/opaque@v1.0.0", "{}")
}

fn sends(policies: &Policies, envelope: &Envelope) -> Decision {
    let first = policies.may_send(&Arc::new(ada()), envelope, "web");
    assert_eq!(first, policies.may_send(&Arc::new(ada()), envelope, "web"), "the same again");
    first
}

fn permitted(name: &str) -> Decision {
    Decision::Permitted(format!("a#{name}").as_str().into())
}

fn forbidden(name: &str) -> Decision {
    Decision::Forbidden(format!("a#{name}").as_str().into())
}

#[test]
fn without_a_policy_nothing_is_permitted() {
    let none = Policies::default();
    assert_eq!(sends(&none, &on("a")), Decision::NotPermitted);
    assert_eq!(none.may_read(&Arc::new(ada()), &on("a"), "web"), Decision::NotPermitted);
    assert_eq!(none.may_open(&Arc::new(ada()), &Filter::new("#").unwrap(), "web"), Decision::NotPermitted);
    assert_eq!(none.may_administer(&Arc::new(ada()), Action::View, DOMAIN), Decision::NotPermitted);
    let only_forbids = policies("forbid(principal, action, resource in Topic::\"a\");");
    assert_eq!(
        (sends(&only_forbids, &on("a")), sends(&only_forbids, &on("b"))),
        (forbidden("1"), Decision::NotPermitted)
    );
}

#[test]
fn a_topic_is_in_what_is_above_it_and_in_nothing_that_looks_like_it() {
    let policies = policies(
        "@id(\"press\") permit(principal, action == Action::\"publish\", resource in Topic::\"plant/press\");",
    );
    for topic in ["plant/press", "plant/press/7", "plant/press/7/temp"] {
        assert_eq!(sends(&policies, &on(topic)), permitted("press"), "{topic}");
    }
    for topic in [
        "plant",
        "plant/pressure",
        "plant/Press",
        "plant/press7/x",
        "press",
        "x/plant/press",
        "plant/ press",
        "plant/préss",
        "plant/рress",
        "plant/press\u{200b}/7",
        "plant/%70ress",
        "plant/./press",
        "plant/../plant/press",
    ] {
        assert_eq!(sends(&policies, &on(topic)), Decision::NotPermitted, "{topic}");
    }
}

#[test]
fn who_may_is_a_principal_a_role_or_a_domain() {
    for (who, may) in [
        ("principal", true),
        ("principal == Principal::\"ada\"", true),
        ("principal == Principal::\"Ada\"", false),
        ("principal in Role::\"operator\"", true),
        ("principal in Role::\"oper\"", false),
        ("principal in Domain::\"plant-a\"", true),
        ("principal in Domain::\"plant-b\"", false),
        ("principal is Principal", true),
        ("principal is Principal in Role::\"buyer\"", true),
    ] {
        let policies = policies(&format!("permit({who}, action in Action::\"send\", resource);"));
        assert_eq!(sends(&policies, &on("a")).is_permitted(), may, "{who}");
    }
}

#[test]
fn what_is_asked_for_and_what_answers_are_actions_of_their_own() {
    let verb = |verb: &str| Envelope { performative: Some(verb.into()), ..on("a") };
    let talk = |conversation| Envelope { conversation: Some(Box::new(conversation)), ..on("a") };
    let reply = talk(Conversation { inreplyto: Some("x".into()), ..Conversation::default() });
    let asks = talk(Conversation { replyto: Some("b".into()), ..Conversation::default() });
    for (action, mays) in [
        ("publish", [true, false, false, false, false]),
        ("request", [false, true, true, true, false]),
        ("reply", [false, false, false, false, true]),
    ] {
        let policies = policies(&format!("permit(principal, action == Action::\"{action}\", resource);"));
        let all = [verb("inform"), verb("request"), verb("query"), asks.clone(), reply.clone()];
        assert_eq!(all.map(|envelope| sends(&policies, &envelope).is_permitted()), mays, "{action}");
        assert_eq!(policies.may_read(&Arc::new(ada()), &on("a"), "web"), Decision::NotPermitted);
    }
}

#[test]
fn a_schema_a_performative_and_a_bridge_tell_messages_of_one_topic_apart() {
    let policies = policies(
        "@id(\"rfp\") permit(principal, action == Action::\"publish\", resource in Topic::\"market\") when { context.schema in Schema::\"market/rfp\" };\n\
         @id(\"bid\") permit(principal in Role::\"buyer\", action == Action::\"publish\", resource in Topic::\"market\") when { context.performative == Performative::\"propose\" && context.bridge == Bridge::\"web\" };",
    );
    let with = |kind: &str, verb: &str| Envelope { performative: Some(verb.into()), ..message("market/a", kind, "{}") };
    assert_eq!(sends(&policies, &with("market/rfp@v1.0.0", "inform")), permitted("rfp"));
    assert_eq!(sends(&policies, &with("market/rfp@v2.1.0", "inform")), permitted("rfp"));
    for kind in ["market/contract@v1.0.0", "market/rfps@v1.0.0", "market@v1.0.0", "mesh/opaque@v1.0.0"] {
        assert_eq!(sends(&policies, &with(kind, "inform")), Decision::NotPermitted, "{kind}");
    }
    assert_eq!(sends(&policies, &with("market/contract@v1.0.0", "propose")), permitted("bid"));
    let floor = policies.may_send(&Arc::new(ada()), &with("market/contract@v1.0.0", "propose"), "floor");
    assert_eq!(floor, Decision::NotPermitted);
    assert_eq!(
        sends(&policies, &message("market/a", "x@v1.0.0", "{}")),
        Decision::NotPermitted,
        "it has no performative"
    );
}

#[test]
fn a_field_of_the_data_is_compared_with_an_attribute_or_a_value() {
    let policies = policies(
        "@id(\"spend\") permit(principal, action, resource in Topic::\"orders\") when { context.data has amount && principal has limit && context.data.amount <= principal.limit };\n\
         @id(\"dear\") forbid(principal, action, resource in Topic::\"orders\") when { context.data has amount && context.data.amount > context.ceiling };\n\
         @id(\"price\") permit(principal, action, resource in Topic::\"prices\") when { context.data has price && context.data.price.lessThan(decimal(\"12.5\")) && context.night };\n\
         @id(\"note\") permit(principal, action, resource in Topic::\"notes\") when { context.data has note && context.data.note like \"ok*\" };",
    );
    let order = |data: &str| sends(&policies, &message("orders/1", "o@v1.0.0", data));
    assert_eq!(order(r#"{"amount":100}"#), permitted("spend"));
    assert_eq!(order(r#"{"amount":1e2}"#), permitted("spend"));
    assert_eq!(order(r#"{"amount":101}"#), Decision::NotPermitted);
    assert_eq!(order(r#"{"amount":501}"#), forbidden("dear"));
    assert_eq!(order("{}"), Decision::NotPermitted);
    for (data, why) in [
        (r#"{"amount":"5"}"#, "\"amount\" of the data is not an integer"),
        (r#"{"amount":null}"#, "\"amount\""),
        (r#"{"amount":5.5}"#, "\"amount\""),
        (r#"{"amount":1e40}"#, "\"amount\""),
        (r#"{"amount":1,"amount":900}"#, "not JSON"),
        (r#"{"amount":1,"order":{"note":7}}"#, "\"order.note\""),
        ("not JSON", "not JSON"),
        ("", "not JSON"),
    ] {
        let Decision::Undecided(_, said) = order(data) else { panic!("{data}: {:?}", order(data)) };
        assert!(said.contains(why), "{data}: {said}");
    }
    assert_eq!(sends(&policies, &message("prices", "p@v1.0.0", r#"{"price":12.4999}"#)), permitted("price"));
    assert_eq!(sends(&policies, &message("prices", "p@v1.0.0", r#"{"price":12.5}"#)), Decision::NotPermitted);
    assert_eq!(sends(&policies, &message("notes", "n@v1.0.0", r#"{"order":{"note":"ok then"}}"#)), permitted("note"));
    assert_eq!(
        sends(&policies, &message("elsewhere", "n@v1.0.0", "not JSON")),
        Decision::NotPermitted,
        "nothing reads it"
    );
}

#[test]
fn a_policy_that_fails_refuses_even_if_another_permits() {
    let policies = policies(
        "@id(\"all\") permit(principal, action, resource);\n\
         @id(\"sum\") forbid(principal, action in Action::\"send\", resource) when { context.data has amount && context.data.amount * 4 > 9 };",
    );
    let max = message("a", "o@v1.0.0", r#"{"amount":9223372036854775807}"#);
    assert!(matches!(sends(&policies, &max), Decision::Undecided(Some(policy), _) if &*policy == "a#sum"));
    assert_eq!(sends(&policies, &message("a", "o@v1.0.0", r#"{"amount":1}"#)), permitted("all"));
}

#[test]
fn reserved_topics_are_reached_only_by_a_permit_that_names_them() {
    let wide = policies("permit(principal, action, resource);");
    let named = policies("permit(principal, action, resource in Topic::\"$mesh/audit\");");
    for (topic, wide_may, named_may) in
        [("$mesh/audit/web", false, true), ("$mesh/inbox/ada", false, false), ("a", true, false)]
    {
        assert_eq!(sends(&wide, &on(topic)).is_permitted(), wide_may, "{topic}");
        assert_eq!(sends(&named, &on(topic)).is_permitted(), named_may, "{topic}");
        let open = |policies: &Policies| {
            policies.may_open(&Arc::new(ada()), &Filter::new(topic).unwrap(), "web").is_permitted()
        };
        assert_eq!((open(&wide), open(&named)), (wide_may, named_may), "{topic}");
    }
    let forbids =
        policies("permit(principal, action, resource in Topic::\"$mesh\"); forbid(principal, action, resource);");
    assert_eq!(sends(&forbids, &on("$mesh/audit/web")), forbidden("2"), "a forbid needs not name it");
}

#[test]
fn a_subscription_is_opened_if_some_of_it_may_be_read() {
    let policies = policies(
        "@id(\"plant\") permit(principal, action == Action::\"subscribe\", resource in Topic::\"plant\");\n\
         @id(\"secret\") forbid(principal, action, resource in Topic::\"plant/secret\");\n\
         @id(\"rfp\") permit(principal, action == Action::\"subscribe\", resource in Topic::\"market\") when { context.schema in Schema::\"market/rfp\" };\n\
         @id(\"hot\") forbid(principal, action == Action::\"subscribe\", resource in Topic::\"plant\") when { context.data has amount && context.data.amount > 5 };",
    );
    let open = |filter: &str| policies.may_open(&Arc::new(ada()), &Filter::new(filter).unwrap(), "web");
    let read = |envelope: &Envelope| policies.may_read(&Arc::new(ada()), envelope, "web");
    for filter in ["plant", "plant/#", "plant/+/temp", "plant/7"] {
        assert_eq!(open(filter), permitted("plant"), "{filter}");
    }
    assert_eq!(open("plant/secret/#"), forbidden("secret"));
    assert_eq!(open("market/#"), permitted("rfp"));
    for filter in ["#", "+/secret", "+", "plan/#", "planta", "other"] {
        assert_eq!(open(filter), Decision::NotPermitted, "{filter}");
    }
    assert_eq!(read(&on("plant/7")), permitted("plant"));
    assert_eq!(read(&on("plant/secret/7")), forbidden("secret"), "plant/# leaks nothing");
    assert_eq!(read(&message("plant/7", "o@v1.0.0", r#"{"amount":6}"#)), forbidden("hot"));
    assert_eq!(read(&message("market/a", "market/rfp@v1.0.0", "{}")), permitted("rfp"));
    assert_eq!(read(&message("market/a", "market/contract@v1.0.0", "{}")), Decision::NotPermitted);
}

#[test]
fn the_gateway_is_looked_at_and_changed_by_those_who_may() {
    let policies = policies(
        "permit(principal in Role::\"viewer\", action == Action::\"view\", resource);\n\
         permit(principal in Role::\"operator\", action in [Action::\"view\", Action::\"administer\"], resource == Gateway::\"plant-a\");",
    );
    let may = |role: &str, action| {
        let principal = Arc::new(Principal { roles: vec![role.into()], ..Principal::new("p", DOMAIN) });
        (
            policies.may_administer(&principal, action, DOMAIN).is_permitted(),
            policies.may_administer(&principal, action, "plant-b").is_permitted(),
        )
    };
    assert_eq!((may("viewer", Action::View), may("viewer", Action::Administer)), ((true, true), (false, false)));
    assert_eq!((may("operator", Action::View), may("operator", Action::Administer)), ((true, false), (true, false)));
    assert_eq!(may("nobody", Action::View), (false, false));
}

#[test]
fn what_a_policy_says_of_the_time_is_asked_each_time() {
    let policies = policies(
        "@id(\"then\") permit(principal, action, resource in Topic::\"a\") when { context.time < datetime(\"2020-01-01\") };\n\
         @id(\"now\") permit(principal, action, resource in Topic::\"b\") when { context.time > datetime(\"2020-01-01T00:00:00.000Z\") };",
    );
    assert_eq!((sends(&policies, &on("a")), sends(&policies, &on("b"))), (Decision::NotPermitted, permitted("now")));
}

#[test]
fn what_is_wrong_with_a_policy_is_said_with_its_place() {
    for (text, what) in [
        ("permit(principal, action, resource)", "policies/a.cedar:"),
        ("permit(principal == User::\"a\", action, resource);", "policies/a.cedar:1:21"),
        ("permit(principal, action == Action::\"publsh\", resource);", "publsh"),
        ("permit(principal, action, resource in Topics::\"a\");", "Topics"),
        ("permit(principal, action, resource) when { principal.limt > 1 };", "limt"),
        ("permit(principal, action == Action::\"publish\", resource) when { context.amount > 1 };", "amount"),
        ("permit(principal, action == Action::\"publish\", resource) when { context.data.amount > 1 };", "amount"),
        (
            "permit(principal, action == Action::\"publish\", resource) when { context.data has amount && context.data.amount > \"1\" };",
            "policies/a.cedar:1:",
        ),
        ("permit(principal, action == Action::\"publish\", resource) when { context.time };", "policies/a.cedar:1:"),
        ("permit(principal, action == Action::\"administer\", resource in Topic::\"a\");", "policies/a.cedar:1:1"),
        ("permit(principal, action, resource == Topic::\"a/#\");", "policies/a.cedar:1:47"),
        ("permit(principal, action, resource in Topic::\"a//b\");", "is empty"),
        ("permit(principal, action, resource in Topic::\"\");", "not empty"),
        ("permit(principal, action, resource in Topic::\"p\u{0430}yments\");", "policies/a.cedar"),
        ("permit(principal == ?principal, action, resource);", "templates"),
        (
            "@id(\"x\") permit(principal, action, resource);\n@id(\"x\") forbid(principal, action, resource);",
            "two policies are called a#x",
        ),
        (
            "permit(principal, action, resource) when { decimal(\"1.00001\") == decimal(\"1.0\") };",
            "policies/a.cedar:1:",
        ),
    ] {
        let said = load(text).expect_err(text);
        assert!(said.contains(what), "{text}: {said}");
    }
}

#[test]
fn a_name_that_nothing_has_is_an_error_with_the_nearest_one() {
    let names = KnownNames {
        bridges: Some(&["web", "floor"]),
        schemas: Some(&["market/rfp@v1.0.0"]),
        performatives: Some(&["inform", "cancel"]),
    };
    let said = |condition: &str| {
        let text = format!("permit(principal, action in Action::\"send\", resource) when {{ {condition} }};");
        let source = PolicySource { path: "policies/a.cedar", name: "a", text: &text };
        let (_, found) = Policies::load_knowing(&[source], &config(), names);
        yaml::Diagnostics::collect(found).map(|all| all.to_string())
    };
    for sound in [
        "context.bridge == Bridge::\"web\"",
        "context.schema in Schema::\"market/rfp\" || context.schema in Schema::\"market\"",
        "context.schema == Schema::\"market/rfp@v1.0.0\" || context.schema == Schema::\"mesh/opaque@v1.0.0\"",
        "context.performative == Performative::\"none\" || context.performative == Performative::\"x-bid\"",
        "principal in Role::\"nobody-has-it-yet\"",
    ] {
        assert_eq!(said(sound), None, "{sound}");
    }
    for (wrong, what) in [
        ("context.bridge == Bridge::\"wbe\"", "there is no bridge \"wbe\""),
        ("context.schema in Schema::\"market/rpf\"", "did you mean \"market/rfp\"?"),
        ("context.performative == Performative::\"cancle\"", "did you mean \"cancel\"?"),
    ] {
        let said = said(wrong).unwrap_or_default();
        assert!(said.contains(what) && said.contains("policies/a.cedar:1:"), "{wrong}: {said}");
    }
    let declared = PolicyConfig::parse("policy.yaml", "access: { roles: [device] }").unwrap().access;
    for (role, what) in [
        ("device", None),
        ("viewer", None),
        ("devcie", Some("did you mean \"device\"?")),
        ("boss", Some("no role \"boss\"")),
    ] {
        for text in [
            format!("permit(principal in Role::\"{role}\", action, resource);"),
            format!("forbid(principal, action, resource) unless {{ principal in Role::\"{role}\" }};"),
        ] {
            let source = PolicySource { path: "policies/a.cedar", name: "a", text: &text };
            let said = yaml::Diagnostics::collect(Policies::load_knowing(&[source], &declared, names).1);
            let said = said.map(|all| all.to_string());
            assert_eq!(said.is_none(), what.is_none(), "{text}: {said:?}");
            assert!(said.unwrap_or_default().contains(what.unwrap_or_default()), "{text}");
        }
    }
    let policies = "permit(principal, action, resource) when { context.bridge == Bridge::\"wbe\" };";
    assert!(
        load(&policies.replace("action,", "action == Action::\"publish\",")).is_ok(),
        "what is not known is not looked at"
    );
}

#[test]
fn a_policy_of_bad_intent_is_refused_or_decided_on_and_ends_nothing() {
    let when = |condition: String| format!("permit(principal, action, resource) when {{ {condition} }};");
    for (condition, why) in [
        (format!("{}true{}", "!(".repeat(100_000), ")".repeat(100_000)), "nested deeper than 64"),
        ("[".repeat(1_000_000), "nested deeper than 64"),
        ("1 == 1 && ".repeat(100_000) + "true", "more than 4096 words"),
        ("if true then true else ".repeat(10_000) + "true", "more than 4096 words"),
        (format!("context{}", ".data".repeat(100_000)), "more than 4096 words"),
    ] {
        let said = load(&when(condition)).expect_err(why);
        assert!(said.contains("policies/a.cedar:1:") && said.contains(why), "{said}");
    }
    let nested = |depth: usize| when(format!("{}true{}", "!(".repeat(depth), ")".repeat(depth)));
    assert!(sends(&policies(&nested(10)), &on("a")).is_permitted());
    let chain = |words: usize| when("principal.trust > 1 && ".repeat(words) + "true");
    assert!(sends(&policies(&chain(20)), &on("a")).is_permitted());
    for text in [nested(60), chain(500)] {
        // decided on, or refused because the stack at hand is not long enough
        let decision = sends(&policies(&text), &on("a"));
        assert!(matches!(decision, Decision::Permitted(_) | Decision::Undecided(..)), "{decision:?}");
    }
}

#[test]
fn a_refusal_names_the_policy_the_principal_and_what_it_wanted() {
    let policies = policies("@id(\"secret\") forbid(principal, action, resource in Topic::\"secret\");");
    let envelope = Envelope { performative: Some("inform".into()), ..on("secret/1") };
    let refused = sends(&policies, &envelope).into_result(&ada(), || what(Action::Publish, &envelope)).unwrap_err();
    assert_eq!((refused.kind, refused.decider()), (RejectKind::Denied, "a#secret"));
    assert_eq!(refused.detail, r#""ada" is forbidden to publish "mesh/opaque@v1.0.0" on "secret/1" as inform"#);
    let nobody = Decision::NotPermitted.into_result(&ada(), || what(Action::Publish, &envelope)).unwrap_err();
    assert_eq!(nobody.decider(), "access");
}

/// Policies that touch each other in every way there is.
const MANY: &str = r#"
permit(principal in Role::"operator", action in Action::"send", resource in Topic::"plant");
permit(principal == Principal::"ada", action == Action::"publish", resource == Topic::"plant/press");
permit(principal, action == Action::"subscribe", resource in Topic::"market") when { context.schema in Schema::"market/rfp" };
permit(principal, action, resource is Topic) when { principal has limit && context.data has amount && context.data.amount <= principal.limit };
permit(principal in Domain::"plant-a", action == Action::"request", resource) when { resource.name like "*press*" };
forbid(principal, action, resource in Topic::"plant/secret");
forbid(principal in Role::"buyer", action == Action::"publish", resource) when { context.performative == Performative::"cancel" };
forbid(principal, action, resource in Topic::"market") when { context.data has amount && context.data.amount > context.ceiling };
permit(principal is Principal in Role::"operator", action in [Action::"publish", Action::"subscribe"], resource is Topic in Topic::"market/a");
forbid(principal, action in Action::"send", resource) unless { principal.trust >= 10 };
"#;

/// The answer of Cedar itself to all policies at once, and of nothing that is remembered.
fn by_all(policies: &Policies, principal: &Arc<Principal>, action: Action, envelope: &Envelope) -> Decision {
    let question = Question {
        principal,
        action,
        resource: Resource::Topic(envelope.subject.as_str()),
        schema: Some(&envelope.kind),
        performative: Some(envelope.performative.as_deref().unwrap_or(NO_PERFORMATIVE)),
        bridge: Some("web"),
    };
    let all: Vec<_> = policies.scoped.iter().collect();
    policies.decide_by(&question, &all, Some(envelope))
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let roles = prop::sample::subsequence(vec!["buyer", "operator", "viewer"], 0..=3);
    let limit = prop::option::of(0..200_i64);
    (prop::sample::select(vec!["ada", "eve", "#", "plant/#"]), roles, limit, 0..20_u8).prop_map(
        |(id, roles, limit, trust)| Principal {
            roles: roles.into_iter().map(Into::into).collect(),
            attributes: limit.map(|limit| ("limit".into(), Attribute::Integer(limit))).into_iter().collect(),
            trust,
            ..Principal::new(id, DOMAIN)
        },
    )
}

fn any_message() -> impl Strategy<Value = Envelope> {
    let topic = "(plant|market|other|\\$mesh)(/(press|secret|a|pressure)){0,2}";
    let kind = prop::sample::select(vec!["market/rfp@v1.0.0", "market/contract@v1.0.0", "mesh/opaque@v1.0.0"]);
    let data = prop_oneof![(0..1_000_i64).prop_map(|n| format!("{{\"amount\":{n}}}")), Just("{}".to_owned())];
    let verb = prop::option::of(prop::sample::select(vec!["inform", "request", "cancel"]));
    (topic, kind, data, verb).prop_map(|(topic, kind, data, verb)| Envelope {
        performative: verb.map(Into::into),
        ..message(&topic, kind, &data)
    })
}

/// Loaded once: checking them against the schema is what takes time.
static LOADED: LazyLock<Policies> = LazyLock::new(|| policies(MANY));

proptest! {
    #[test]
    fn sliced_and_remembered_decisions_are_those_of_all_policies_asked_anew(
        asked in prop::collection::vec((any_principal(), any_message(), any::<bool>()), 1..40)
    ) {
        let policies = &*LOADED;
        for (principal, envelope, sends) in asked.iter().chain(&asked) {
            let principal = Arc::new(principal.clone());
            let action = if *sends { Action::of(envelope) } else { Action::Subscribe };
            let anew = by_all(policies, &principal, action, envelope);
            // over all policies, a permit that does not name a reserved topic reaches it; here none does
            let anew = if envelope.subject.is_reserved() && anew.is_permitted() { Decision::NotPermitted } else { anew };
            let decided = policies.message(&principal, action, (envelope.subject.as_str(), envelope), "web");
            prop_assert_eq!(decided, anew, "{:?} {:?} {}", principal, action, envelope.subject);
        }
    }

    #[test]
    fn what_may_be_read_may_be_opened(principal in any_principal(), envelope in any_message()) {
        let policies = &*LOADED;
        let principal = Arc::new(principal);
        if policies.may_read(&principal, &envelope, "web").is_permitted() {
            let itself = Filter::new(envelope.subject.as_str()).unwrap();
            prop_assert!(policies.may_open(&principal, &itself, "web").is_permitted());
        }
    }
}
