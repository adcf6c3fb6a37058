//! Inboxes: of one principal each, and only where a policy names them.

use envelope::Conversation;

use super::*;

const PERMIT: &str =
    "@id(\"inbox\") permit(principal, action == Action::\"subscribe\", resource in Topic::\"$mesh/inbox\");";

fn opens(policies: &Policies, who: &Arc<Principal>, filter: &str) -> bool {
    policies.may_open(who, &Filter::new(filter).unwrap(), "web").is_permitted()
}

fn addressed(to: &[&str]) -> Envelope {
    let recipients = to.iter().map(|name| (*name).into()).collect();
    Envelope {
        conversation: Some(Box::new(Conversation { recipients, ..Conversation::default() })),
        ..on("market/offers")
    }
}

#[test]
fn an_inbox_is_its_principals_and_nobody_elses_whatever_is_permitted() {
    let (ada, anonymous) = (Arc::new(ada()), Arc::new(Principal::anonymous(DOMAIN)));
    let policies = policies(PERMIT);
    assert!(opens(&policies, &ada, "$mesh/inbox/ada"));
    for foreign in ["$mesh/inbox/bob", "$mesh/inbox/Ada", "$mesh/inbox/anonymous", "$mesh/#"] {
        assert!(!opens(&policies, &ada, foreign), "{foreign}");
    }
    assert!(!opens(&policies, &anonymous, "$mesh/inbox/anonymous"), "it would be everybody's");
    assert!(!opens(&Policies::default(), &ada, "$mesh/inbox/ada"), "a policy has to name inboxes");
}

#[test]
fn what_is_in_an_inbox_is_read_by_whom_it_is_for_unless_its_topic_is_forbidden() {
    let (ada, anonymous) = (Arc::new(ada()), Arc::new(Principal::anonymous(DOMAIN)));
    let reads = |policies: &Policies, who, to: &[&str]| policies.may_read(who, &addressed(to), "web");
    let open = policies(PERMIT);
    assert_eq!(reads(&open, &ada, &["bob", "ada"]), permitted("inbox"));
    assert_eq!(reads(&open, &ada, &["bob"]), Decision::NotPermitted);
    assert_eq!(reads(&open, &anonymous, &["anonymous"]), Decision::NotPermitted);
    assert_eq!(reads(&Policies::default(), &ada, &["ada"]), Decision::NotPermitted);
    let forbids = policies(&format!("{PERMIT}\n@id(\"no\") forbid(principal, action, resource in Topic::\"market\");"));
    assert_eq!(reads(&forbids, &ada, &["ada"]), forbidden("no"));
    let none = policies(&format!(
        "{PERMIT}\n@id(\"mute\") forbid(principal, action, resource in Topic::\"$mesh/inbox\") \
         when {{ context.schema in Schema::\"mesh/opaque\" }};"
    ));
    assert_eq!(reads(&none, &ada, &["ada"]), forbidden("mute"));
}
