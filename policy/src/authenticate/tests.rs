use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use envelope::CertificateNames;
use futures_util::FutureExt as _;
use schema::Schemas;
use yaml::Secret;

use super::*;
use crate::PolicyConfig;

struct NoMapper;

impl envelope::Mapper for NoMapper {
    fn map(&self, _: Inbound) -> envelope::MapResult {
        unreachable!("authentication maps nothing")
    }
}

fn epoch_of(policy: &str, users: Users) -> Epoch {
    let config = PolicyConfig::parse("policy.yaml", policy).unwrap();
    Epoch::new(1, "plant-a".into(), Arc::new(NoMapper), Arc::new(Schemas::default()), config).with_users(users)
}

fn epoch(anonymous: bool) -> Epoch {
    epoch_of(if anonymous { "anonymous: true" } else { "" }, Users::default())
}

fn gate(epoch: Epoch) -> Gate {
    Gate::new(epoch.into_current()).unwrap()
}

fn kind(verified: Result<Arc<Principal>, Rejection>) -> Result<Arc<Principal>, RejectKind> {
    verified.map_err(|rejection| {
        assert_eq!(rejection.decided_by, DECIDED_BY);
        rejection.kind
    })
}

fn verify(gate: &Gate, credentials: Credentials) -> Result<Arc<Principal>, RejectKind> {
    kind(gate.verify(credentials, None).now_or_never().expect("decides at once"))
}

fn header(text: &str) -> Credentials {
    Credentials::Authorization(text.to_owned().into())
}

fn basic(name: &str, password: &str) -> Credentials {
    header(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
}

fn operator() -> User {
    let mut user = User::default();
    user.roles.push("operator".into());
    user
}

/// `ada` with a password and a key.
fn ada(change: impl FnOnce(User) -> User) -> (UsersFile, NewKey) {
    let (mut file, key) = (UsersFile::default(), NewKey::generate().unwrap());
    let password = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    file.add_user("ada", change(operator().with_password(password))).unwrap();
    file.add_key("ada", &key, None).unwrap();
    (file, key)
}

fn bearer(key: &NewKey) -> Credentials {
    header(&format!("Bearer {}", key.key.expose()))
}

fn known(file: &UsersFile) -> Epoch {
    epoch_of("", file.principals(&"plant-a".into()))
}

#[test]
fn a_peer_without_credentials_is_anonymous_where_the_policy_says_so() {
    let gate = gate(epoch(true));
    let principal = verify(&gate, Credentials::None).unwrap();
    assert_eq!((&*principal.id, &*principal.domain, principal.trust), ("anonymous", "plant-a", 0));
    assert!(Arc::ptr_eq(&principal, &verify(&gate, Credentials::None).unwrap()), "one for all requests");
}

#[test]
fn credentials_that_nobody_can_verify_get_nothing() {
    for anonymous in [true, false] {
        let gate = gate(epoch(anonymous));
        let key = format!("Bearer om_a_{}", "0".repeat(64));
        for value in ["Bearer om_1_2", &key, "Bearer a.b.c", "Basic !", "Digest a", ""] {
            assert_eq!(verify(&gate, header(value)), Err(RejectKind::Unauthenticated), "{value:?}");
        }
        assert_eq!(verify(&gate, Credentials::Certificate("no DER".into())), Err(RejectKind::Unauthenticated));
    }
}

#[test]
fn a_key_is_its_users_and_nobody_elses() {
    let (file, key) = ada(|user| user);
    let gate = gate(known(&file));
    let principal = verify(&gate, bearer(&key)).unwrap();
    assert_eq!((&*principal.id, principal.has_role("operator")), ("ada", true));
    let other = NewKey::generate().unwrap();
    let (id, _) = key.key.expose().rsplit_once('_').unwrap();
    let (_, secret) = other.key.expose().rsplit_once('_').unwrap();
    for wrong in [bearer(&other), header(&format!("Bearer {id}_{secret}"))] {
        assert_eq!(verify(&gate, wrong), Err(RejectKind::Unauthenticated));
    }
}

#[test]
fn a_key_ends_when_it_says() {
    let (mut file, key) = ada(|user| user);
    let ended = NewKey::generate().unwrap();
    file.add_key("ada", &ended, Timestamp::parse("2020-01-01T00:00:00Z")).unwrap();
    let gate = gate(known(&file));
    assert!(verify(&gate, bearer(&key)).is_ok());
    assert_eq!(verify(&gate, bearer(&ended)), Err(RejectKind::Unauthenticated));
}

#[tokio::test]
async fn a_password_is_verified_once_and_what_is_wrong_never_tells_which() {
    let (file, _) = ada(|user| user);
    let gate = gate(known(&file));
    let first = gate.verify(basic("ada", "correct horse"), None).await.unwrap();
    let again = gate.verify(basic("ada", "correct horse"), None).now_or_never().expect("from what is remembered");
    assert!(Arc::ptr_eq(&first, &again.unwrap()));
    let mut said = Vec::new();
    for (name, password) in [("ada", "wrong horse"), ("eve", "correct horse"), ("", ""), ("anonymous", "")] {
        let rejection = gate.verify(basic(name, password), None).await.unwrap_err();
        assert_eq!(rejection.kind, RejectKind::Unauthenticated);
        said.push(rejection.detail);
    }
    assert!(said.iter().all(|detail| *detail == said[0]), "{said:?}");
}

#[tokio::test]
async fn a_reload_holds_from_the_next_request_on() {
    let (file, key) = ada(|user| user);
    let current = known(&file).into_current();
    let gate = Gate::new(current.clone()).unwrap();
    let by_key = verify(&gate, bearer(&key)).unwrap();
    let by_password = gate.verify(basic("ada", "correct horse"), None).await.unwrap();
    let standing = |principal: &Arc<Principal>| current.load().still_lets_in(principal).is_ok();
    assert!(standing(&by_key) && standing(&by_password));

    current.store(Arc::new(known(&file)));
    assert!(standing(&by_key) && standing(&by_password), "the same says the same");

    let mut promoted = file.clone();
    promoted
        .change_user("ada", |mut user| {
            user.roles.clear();
            user
        })
        .unwrap();
    current.store(Arc::new(known(&promoted)));
    assert!(!standing(&by_key) && !standing(&by_password), "they would be another principal");
    assert!(!gate.verify(basic("ada", "correct horse"), None).await.unwrap().has_role("operator"));

    let mut changed = file.clone();
    let password = StoredPassword::hash(&Secret::new("battery staple")).unwrap();
    changed.change_user("ada", |user| user.with_password(password)).unwrap();
    changed.remove_key(&key.id).unwrap();
    current.store(Arc::new(known(&changed)));
    assert!(!standing(&by_key) && !standing(&by_password));
    assert_eq!(verify(&gate, bearer(&key)), Err(RejectKind::Unauthenticated));
    let old = gate.verify(basic("ada", "correct horse"), None).await;
    assert_eq!(kind(old), Err(RejectKind::Unauthenticated), "what is remembered is not believed");

    current.store(Arc::new(epoch(true)));
    assert!(verify(&gate, Credentials::None).is_ok());
    current.store(Arc::new(epoch(false)));
    assert_eq!(verify(&gate, Credentials::None), Err(RejectKind::Unauthenticated));
}

#[tokio::test]
async fn an_open_connection_hears_when_its_principal_is_let_in_no_more() {
    let (file, key) = ada(|user| user);
    let current = known(&file).into_current();
    let gate = Gate::new(current.clone()).unwrap();
    let principal = verify(&gate, bearer(&key)).unwrap();
    let mut ended = gate.ended(principal);
    assert!((&mut ended).now_or_never().is_none());
    current.store(Arc::new(known(&file)));
    assert!((&mut ended).now_or_never().is_none(), "a reload that changes nothing of it");
    current.store(Arc::new(known(&UsersFile::default())));
    let why = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is told");
    assert_eq!(why.detail, "the credentials were revoked or changed");
}

#[tokio::test]
async fn an_open_connection_hears_when_its_credentials_end() {
    let (mut file, key) = (UsersFile::default(), NewKey::generate().unwrap());
    file.add_user("ada", User::default()).unwrap();
    file.add_key("ada", &key, Some(Timestamp::now().plus(Duration::from_millis(50)))).unwrap();
    let gate = gate(known(&file));
    let principal = verify(&gate, bearer(&key)).unwrap();
    let why = tokio::time::timeout(Duration::from_secs(10), gate.ended(principal)).await.expect("it is told");
    assert_eq!(why.detail, "the credentials have ended");
}

#[test]
fn nobody_gets_in_by_being_called_like_somebody() {
    let (file, _) = ada(|user| user);
    let epoch = known(&file);
    for forged in [Principal::new("ada", "plant-a"), Principal::anonymous("plant-a")] {
        assert!(epoch.still_lets_in(&forged).is_err());
    }
    let open = epoch_of("anonymous: true", file.principals(&"plant-a".into()));
    assert!(open.still_lets_in(&Principal::new("ada", "plant-a")).is_err(), "without a proof nobody is ada");
}

const RULES: &str = "certificates:\n  - match: { uri: \"spiffe://plant-a/press/*\" }\n    principal: press-*\n    roles: [device]\n  \
                     - match: { common_name: backup }\n    principal: backup\n    trust: 90\n  - match: { dns: \"*.plant.example\" }\n    principal: \"*\"\n";

fn names(common_name: Option<&str>, dns: &[&str], uri: &[&str]) -> Arc<CertificateNames> {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Arc::new(CertificateNames {
        common_name: common_name.map(str::to_owned),
        dns: all(dns),
        uri: all(uri),
        ..CertificateNames::default()
    })
}

#[test]
fn the_first_rule_that_matches_a_certificate_says_whose_it_is() {
    let epoch = epoch_of(RULES, Users::default());
    let principal = |names| certificate::principal(&epoch.access.certificates, &epoch.domain, names);
    let press = principal(names(Some("backup"), &[], &["https://a", "spiffe://plant-a/press/7"])).unwrap();
    assert_eq!((&*press.id, press.has_role("device"), press.trust), ("press-7", true, 0));
    assert!(epoch.still_lets_in(&press).is_ok());
    let backup = principal(names(Some("backup"), &["gauge.plant.example"], &[])).unwrap();
    assert_eq!((&*backup.id, backup.trust), ("backup", 90));
    assert_eq!(&*principal(names(None, &["gauge.plant.example"], &[])).unwrap().id, "gauge");
    for nobody in [
        names(None, &[], &[]),
        names(Some("Backup"), &[], &[]),
        names(Some("backup "), &[], &[]),
        names(None, &["plant.example", ".plant.example"], &["spiffe://plant-a/press/"]),
        names(None, &[], &["spiffe://plant-a/press/7/admin", "spiffe://plant-b/press/7"]),
        names(None, &["#.plant.example"], &[]),
        names(None, &["anonymous.plant.example"], &[]),
        names(Some("press-7"), &[], &[]),
    ] {
        assert!(principal(nobody.clone()).is_err(), "{nobody:?}");
    }
    assert!(epoch_of("", Users::default()).still_lets_in(&press).is_err(), "its rule is gone");
}

#[test]
fn a_rule_that_is_not_understood_is_an_error_with_its_place() {
    for (rule, what) in [
        ("{ match: {}, principal: a }", "looks at one name, this at 0"),
        ("{ match: { dns: a, uri: b }, principal: a }", "this at 2"),
        ("{ match: { dns: \"*.*\" }, principal: \"*\" }", "one '*'"),
        ("{ match: { dns: a }, principal: \"*\" }", "both or none"),
        ("{ match: { dns: \"*\" }, principal: a }", "both or none"),
        ("{ match: { ip: a }, principal: a }", "unknown key \"ip\""),
        ("{ match: { dns: a } }", "\"principal\" is missing"),
    ] {
        let said = PolicyConfig::parse("policy.yaml", &format!("certificates:\n  - {rule}\n")).unwrap_err().to_string();
        assert!(said.contains(what) && said.contains("policy.yaml:2:"), "{rule}: {said}");
    }
}
