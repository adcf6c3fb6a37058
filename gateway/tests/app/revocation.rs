//! Whoever is let in no more is out: the WebSocket that it opened is closed, and its next request refused.

use envelope::Attribute;
use gateway::Reloaded;
use policy::{NewKey, StoredPassword, User, UsersFile};
use serde_json::json;
use yaml::Secret;

use crate::{
    support::{Site, Socket, get, post_as, web},
    tokens::Signer,
};

const REVOKED: &str = "the credentials were revoked or changed";
/// `bob:correct horse`
const BOB: &str = "Basic Ym9iOmNvcnJlY3QgaG9yc2U=";

fn site() -> Site {
    let site = Site::shipped();
    site.write("policies/all.cedar", "permit(principal, action in Action::\"send\", resource);");
    site
}

async fn sends(socket: &mut Socket) -> bool {
    socket.publish("/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await["status"].is_null()
}

#[tokio::test]
async fn each_change_of_a_user_ends_the_connections_of_what_it_changes_and_no_other() {
    let mut file = UsersFile::default();
    let (first, second) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
    file.add_user("ada", User::default()).unwrap();
    file.add_key("ada", &first, None).unwrap();
    file.add_key("ada", &second, None).unwrap();
    let password = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    file.add_user("bob", User::default().with_password(password)).unwrap();
    let site = site();
    site.write("policy.yaml", "access: { attributes: { limit: integer } }\n");
    site.write("users.yaml", &file.to_string());
    let running = site.start().await;
    let address = web(&running);
    let bearer = |key: &NewKey| format!("Bearer {}", key.key.expose());
    let open = async |authorization: &str| Socket::open_as(address, Some(authorization)).await.unwrap();
    let (mut by_first, mut by_second, mut bob) =
        (open(&bearer(&first)).await, open(&bearer(&second)).await, open(BOB).await);
    let change = async |file: &UsersFile| {
        site.write("users.yaml", &file.to_string());
        assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    };

    file.remove_key(&first.id).unwrap();
    change(&file).await;
    assert_eq!(by_first.closed().await, (1008, REVOKED.to_owned()), "its key was removed");
    assert!(sends(&mut by_second).await && sends(&mut bob).await, "of the same user by another key, and another user");

    let stored = StoredPassword::hash(&Secret::new("another horse")).unwrap();
    file.change_user("bob", |user| user.with_password(stored)).unwrap();
    change(&file).await;
    assert_eq!(bob.closed().await, (1008, REVOKED.to_owned()), "its password was changed");
    assert_eq!(Socket::open_as(address, Some(BOB)).await.err(), Some(401));

    let limit = |mut user: User| {
        user.attributes = [("limit".into(), Attribute::Integer(5))].into();
        user
    };
    file.change_user("ada", limit).unwrap();
    change(&file).await;
    assert_eq!(by_second.closed().await, (1008, REVOKED.to_owned()), "it is somebody else by now");

    let mut again = open(&bearer(&second)).await;
    let disable = |disabled| {
        move |mut user: User| {
            user.disabled = disabled;
            user
        }
    };
    file.change_user("ada", disable(true)).unwrap();
    change(&file).await;
    assert_eq!(again.closed().await, (1008, REVOKED.to_owned()), "it is disabled");
    assert_eq!(Socket::open_as(address, Some(&bearer(&second))).await.err(), Some(401));
    file.change_user("ada", disable(false)).unwrap();
    change(&file).await;
    assert!(sends(&mut open(&bearer(&second)).await).await);
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_its_connection_and_a_list_that_is_wrong_changes_nothing() {
    let signer = Signer::new("k");
    let site = site();
    site.write(
        "policy.yaml",
        "tokens:\n  corp: { issuer: https://login.example, audience: openmesh, keys: { file: corp.json }, revoked: revoked.yaml }\n",
    );
    site.write("policies/corp.json", &signer.key_set());
    assert!(site.load().unwrap_err().contains("\"revoked.yaml\" is not in the folder of the policies"));
    site.write("policies/revoked.yaml", "");
    let running = site.start().await;
    let address = web(&running);
    let (one, other) =
        (signer.token(json!({ "sub": "ada", "jti": "1" })), signer.token(json!({ "sub": "ada", "jti": "2" })));
    let eve = signer.token(json!({ "sub": "eve" }));
    let open = async |token: &str| Socket::open_as(address, Some(token)).await.unwrap();
    let (mut first, mut second, mut third) = (open(&one).await, open(&other).await, open(&eve).await);

    site.write("policies/revoked.yaml", "ids: [\"1\"]\n");
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    assert_eq!(first.closed().await, (1008, REVOKED.to_owned()));
    assert!(sends(&mut second).await && sends(&mut third).await);
    let post =
        async |token: &str| post_as(address, Some(token), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await;
    let refused = post(&one).await;
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (401, Some("the token was revoked")));

    site.write("policies/revoked.yaml", "id: [\"2\"]\n");
    assert!(matches!(running.reload().await, Reloaded::Refused(_)));
    assert!(site.load().unwrap_err().contains("revoked.yaml:1:1"));
    assert!(sends(&mut second).await);
    assert_eq!(post(&one).await.status, 401, "what was revoked stays so");
    assert!(get(running.addresses().admin, "/readyz").await.json()["configuration"].is_string());

    site.write("policies/revoked.yaml", "ids: [\"1\", \"2\"]\nsubjects: [eve]\n");
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    assert_eq!(second.closed().await, (1008, REVOKED.to_owned()));
    assert_eq!(third.closed().await, (1008, REVOKED.to_owned()));
}
