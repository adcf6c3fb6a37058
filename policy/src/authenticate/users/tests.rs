use proptest::prelude::*;
use yaml::Secret;

use super::*;
use crate::PolicyConfig;

const KEY: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn attributes() -> Attributes {
    let text = "access: { attributes: { limit: integer, share: decimal, night: boolean, team: text, lines: list } }\n";
    PolicyConfig::parse("policy.yaml", text).unwrap().access.attributes
}

fn parse(text: &str) -> Result<UsersFile, String> {
    UsersFile::parse("users.yaml", text, &attributes()).map_err(|all| all.to_string())
}

#[test]
fn nobody_is_known_where_nobody_is_named() {
    for text in ["", "{}", "users:\n", "users: {}\n"] {
        assert_eq!(parse(text), Ok(UsersFile::default()), "{text:?}");
    }
}

#[test]
fn each_way_in_has_the_users_principal_and_its_own_proof() {
    let file = parse(&format!(
        "users:\n  press-7:\n    roles: [device, b, b]\n    jurisdiction: \"no\"\n    trust: 50\n    attributes: {{ limit: 1000 }}\n    \
         keys:\n      k1: {{ hash: \"{KEY}\", expires: 2027-01-01T00:00:00Z }}\n      k2: {{ hash: \"{KEY}\" }}\n"
    ));
    let users = file.unwrap().principals(&"plant-a".into());
    let (_, k1) = &users.keys["k1"];
    assert_eq!((&*k1.id, &*k1.domain, k1.trust), ("press-7", "plant-a", 50));
    assert_eq!(k1.roles, ["b".into(), "device".into()]);
    assert_eq!(k1.attributes["limit"], Attribute::Integer(1_000));
    assert_eq!(k1.expires, Timestamp::parse("2027-01-01T00:00:00Z"));
    let (_, k2) = &users.keys["k2"];
    assert_eq!(k2.expires, None);
    assert_ne!(k1.proof, k2.proof);
    assert!(users.by_name("press-7").is_none(), "it has no password");
}

#[test]
fn a_role_is_one_of_those_that_are_declared_if_any_are_whoever_has_it() {
    let policy = "access: { roles: [device, reader] }\n";
    let declared = PolicyConfig::parse("policy.yaml", policy).unwrap().access.attributes;
    let users = |roles: &str| {
        let text = format!("users:\n  a: {{ roles: [{roles}] }}\n");
        UsersFile::parse("users.yaml", &text, &declared).map_err(|all| all.to_string())
    };
    assert!(users("device, reader, viewer, operator").is_ok());
    let said = users("reader, devcie").unwrap_err();
    assert!(said.contains("users.yaml:2:24") && said.contains("did you mean \"device\"?"), "{said}");
    for wrong in [
        "certificates: [{ match: { common_name: x }, principal: x, roles: [devcie] }]\n",
        "tokens: { a: { issuer: i, audience: o, keys: { file: k.json }, grant: [devcie] } }\n",
    ] {
        let said = PolicyConfig::parse("policy.yaml", &format!("{policy}{wrong}")).unwrap_err().to_string();
        assert!(said.contains("policy.yaml:2:") && said.contains("did you mean \"device\"?"), "{said}");
        assert!(PolicyConfig::parse("policy.yaml", wrong).is_ok(), "where none is declared any there may be");
    }
    let twice = PolicyConfig::parse("policy.yaml", "access: { roles: [\"\"] }\n").unwrap_err().to_string();
    assert!(twice.contains("policy.yaml:1:19"), "{twice}");
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_without_what_may_be_a_secret() {
    let secret = "hunter42hunter42";
    for (text, place, what) in [
        ("users:\n  anonymous: {}\n", "users.yaml:2:3", "prove nothing"),
        ("users:\n  \"telemetry/#\": {}\n", "users.yaml:2:3", "is not 1 to 128"),
        ("users:\n  a: { role: [x] }\n", "users.yaml:2:8", "unknown key \"role\""),
        ("users:\n  a: { roles: [\"\"] }\n", "users.yaml:2:16", "not empty"),
        ("users:\n  a: { disabled: maybe }\n", "users.yaml:2:18", "true or false"),
        ("users:\n  a: { trust: 101 }\n", "users.yaml:2:15", "101"),
        ("users:\n  a: { attributes: { limt: 1 } }\n", "users.yaml:2:22", "not declared"),
        ("users:\n  a: { attributes: { limit: \"1\" } }\n", "users.yaml:2:29", "an integer"),
        ("users:\n  a: { attributes: { share: 0.00001 } }\n", "users.yaml:2:29", "four digits"),
        ("users:\n  a: { password: hunter42hunter42 }\n", "users.yaml:2:18", "argon2id"),
        ("users:\n  a: { keys: { k1: { hash: hunter42hunter42 } } }\n", "users.yaml:2:28", "sha256:"),
        ("users:\n  a: { keys: { K: { hash: x } } }\n", "users.yaml:2:16", "no key's id"),
        ("users:\n  a: { keys: { k: {} } }\n", "users.yaml:2:19", "\"hash\" is missing"),
        ("users:\n  a: { keys: { k: { hash: x, expires: tomorrow } } }\n", "users.yaml:2:39", "a time in UTC"),
        ("keys: {}\n", "users.yaml:1:1", "unknown key \"keys\""),
    ] {
        let said = parse(text).unwrap_err();
        let line = said.lines().next().unwrap_or_default();
        assert!(said.contains(place) && said.contains(what), "{text:?}: {said}");
        assert!(!line.contains(secret), "{said}");
    }
    let twice = format!(
        "users:\n  a: {{ keys: {{ k: {{ hash: \"{KEY}\" }} }} }}\n  b: {{ keys: {{ k: {{ hash: \"{KEY}\" }} }} }}\n"
    );
    assert!(parse(&twice).unwrap_err().contains("users.yaml:3:16"));
}

#[test]
fn changes_are_refused_that_make_no_sense() {
    let mut file = UsersFile::default();
    let key = NewKey::generate().unwrap();
    assert_eq!(file.add_key("ada", &key, None), Err(ChangeError::NoUser("ada".to_owned())));
    file.add_user("ada", User::default()).unwrap();
    assert_eq!(file.add_user("ada", User::default()), Err(ChangeError::UserExists("ada".to_owned())));
    assert!(matches!(file.add_user("a/b", User::default()), Err(ChangeError::BadName { .. })));
    let roles = vec!["a\nb".into()];
    assert!(matches!(file.add_user("b", User { roles, ..User::default() }), Err(ChangeError::BadRole(_))));
    file.add_key("ada", &key, None).unwrap();
    assert!(matches!(file.add_key("ada", &key, None), Err(ChangeError::KeyExists(_))));
    file.remove_key(&key.id).unwrap();
    assert!(matches!(file.remove_key(&key.id), Err(ChangeError::NoKey(_))));
    file.remove_user("ada").unwrap();
    assert!(matches!(file.remove_user("ada"), Err(ChangeError::NoUser(_))));
}

fn any_attribute() -> impl Strategy<Value = (Arc<str>, Attribute)> {
    prop_oneof![
        any::<i64>().prop_map(|value| ("limit".into(), Attribute::Integer(value))),
        any::<i32>().prop_map(|value| ("share".into(), Attribute::Decimal(value.into()))),
        any::<bool>().prop_map(|value| ("night".into(), Attribute::Boolean(value))),
        ".{0,20}".prop_map(|value| ("team".into(), Attribute::Text(value.into()))),
        prop::collection::vec(".{0,9}", 0..3)
            .prop_map(|all| ("lines".into(), Attribute::List(all.into_iter().map(Into::into).collect()))),
    ]
}

fn any_user() -> impl Strategy<Value = User> {
    let roles = prop::collection::btree_set("[a-z\"\\\\#: é-]{1,12}", 0..4);
    let attributes = prop::collection::btree_map(Just(()), any_attribute(), 0..2);
    (roles, prop::option::of("[a-z]{2}"), 0..=100_u8, attributes, any::<bool>()).prop_map(
        |(roles, jurisdiction, trust, attributes, keyed)| {
            let keys = keyed.then(|| {
                let key = NewKey::generate().unwrap();
                (key.id, Key { hash: key.hash, expires: Timestamp::parse("2027-01-01T00:00:00.5Z") })
            });
            User {
                roles: roles.into_iter().map(Into::into).collect(),
                jurisdiction: jurisdiction.map(Into::into),
                trust,
                disabled: trust > 90,
                attributes: attributes.into_values().collect(),
                password: None,
                keys: keys.into_iter().collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back(users in prop::collection::btree_map("[a-z][a-z0-9.@|=~,:_-]{0,12}", any_user(), 0..4)) {
        prop_assume!(!users.contains_key("anonymous"));
        let file = UsersFile { users };
        prop_assert_eq!(parse(&file.to_string()), Ok(file));
    }
}

#[test]
fn who_is_disabled_is_kept_in_the_file_and_has_no_principal() {
    let mut file = parse(&format!("users:\n  ada:\n    keys: {{ k: {{ hash: \"{KEY}\" }} }}\n")).unwrap();
    let known = |file: &UsersFile| file.principals(&"plant-a".into()).keys.contains_key("k");
    assert!(known(&file));
    file.change_user("ada", |user| User { disabled: true, ..user }).unwrap();
    assert!(!known(&file) && file.to_string().contains("disabled: true"));
    file.change_user("ada", |user| User { disabled: false, ..user }).unwrap();
    assert!(known(&file));
}

#[test]
fn a_written_password_reads_back() {
    let stored = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    let mut file = UsersFile::default();
    file.add_user("ada", User::default().with_password(stored)).unwrap();
    assert_eq!(parse(&file.to_string()), Ok(file.clone()));
    assert!(!format!("{file:?}").contains("argon2"), "{file:?}");
}
