//! Bearer tokens: fetched once, shared, renewed; credentials sent only where they belong.
use std::sync::Arc;

use base64::Engine as _;
use rhost_registry::{Credential, Error, ImageSource as _, MemorySink, NoCredentials};

use crate::faulty::{Faulty, Reply, Seen};
use crate::support::{client, layer, login, name, noise};

fn challenge(seen: &Seen) -> Reply {
    let host = seen.header("host").unwrap();
    Reply::new(401, "").header("www-authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"it\""))
}

/// A registry with its token service; accepts tokens `t1`, `t2`, … up to `last`.
async fn registry(answer: &'static str, accepted: &'static str) -> Faulty {
    Faulty::start(move |seen, _| match (seen.path.starts_with("/token"), seen.header("authorization")) {
        (true, _) => Reply::new(200, answer),
        (false, Some(header)) if header == format!("Bearer {accepted}") => Reply::new(200, noise(10)),
        _ => challenge(seen),
    })
    .await
}

async fn fetch(server: &Faulty, client: &rhost_registry::Client) -> Result<(), Error> {
    let image = name(&format!("{}/team/app", server.address));
    client.blob(&image, &layer(&noise(10)), &mut MemorySink::new(10)).await
}

#[tokio::test]
async fn one_token_serves_many_requests() {
    let server = registry(r#"{"token":"t1","expires_in":300}"#, "t1").await;
    let client = client("", Arc::new(NoCredentials));
    let (a, b, c) = tokio::join!(fetch(&server, &client), fetch(&server, &client), fetch(&server, &client));
    a.and(b).and(c).unwrap();
    fetch(&server, &client).await.unwrap();
    let tokens: Vec<_> = server.seen().into_iter().filter(|s| s.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=it&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_only() {
    let server = registry(r#"{"access_token":"t1"}"#, "t1").await;
    let client = client("", login(&server.address, "me", "pw"));
    fetch(&server, &client).await.unwrap();
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("me:pw"));
    for seen in server.seen() {
        assert_eq!(seen.path.starts_with("/token"), seen.header("authorization") == Some(&basic), "{seen:?}");
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let server = registry(r#"{"access_token":"t1"}"#, "t1").await;
    let credential = Credential::IdentityToken("re fresh".into());
    let client = client("", Arc::new(std::collections::BTreeMap::from([(server.address.clone(), credential)])));
    fetch(&server, &client).await.unwrap();
    let posted = server.seen().into_iter().find(|s| s.method == "POST").unwrap();
    let body = String::from_utf8(posted.body).unwrap();
    assert!(body.starts_with("grant_type=refresh_token&client_id=rhost&refresh_token=re+fresh"), "{body}");
}

#[tokio::test]
async fn a_refused_token_is_an_error() {
    let server = registry(r#"{"token":"wrong"}"#, "t1").await;
    match fetch(&server, &client("", Arc::new(NoCredentials))).await {
        Err(Error::Unauthorised { authenticated: false, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(server.seen().len() <= 6);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    // Over a token service, and to the registry itself.
    for service in [true, false] {
        let server = Faulty::start(move |seen, _| {
            let host = seen.header("host").unwrap().to_owned();
            let wanted =
                if service { format!("Bearer realm=\"http://{host}/token\"") } else { "Basic realm=\"x\"".into() };
            let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#;
            Reply::new(401, body).header("www-authenticate", wanted)
        })
        .await;
        let client = client("", login(&server.address, "me", "wrong"));
        let image = name(&format!("{}/team/app", server.address));
        // A HEAD that is refused becomes a GET, for its reason; then everybody asks again.
        let head = client.head(&image).await.unwrap_err();
        for error in [head, fetch(&server, &client).await.unwrap_err(), fetch(&server, &client).await.unwrap_err()] {
            assert!(matches!(error, Error::Unauthorised { authenticated: true, .. }), "{error:?}");
        }
        let sent = server.seen().into_iter().filter(|seen| seen.header("authorization").is_some()).count();
        assert_eq!(sent, 1, "with a token service: {service}");
    }
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    // The registry takes a token once only.
    let server = Faulty::start(|seen, before| match (seen.path.starts_with("/token"), seen.header("authorization")) {
        (true, _) => Reply::new(200, format!("{{\"token\":\"t{before}\"}}")),
        (false, Some(header)) if header == format!("Bearer t{}", before - 1) => Reply::new(200, noise(10)),
        _ => challenge(seen),
    })
    .await;
    let client = client("", Arc::new(NoCredentials));
    for _ in 0..3 {
        fetch(&server, &client).await.unwrap();
    }
}

#[tokio::test]
async fn a_busy_token_service_is_asked_again() {
    let server = Faulty::start(|seen, before| match (seen.path.starts_with("/token"), seen.header("authorization")) {
        (true, _) if before < 2 => Reply::new(503, ""),
        (true, _) => Reply::new(200, r#"{"token":"t"}"#),
        (false, Some(_)) => Reply::new(200, noise(10)),
        _ => challenge(seen),
    })
    .await;
    fetch(&server, &client("", Arc::new(NoCredentials))).await.unwrap();
}

#[tokio::test]
async fn nonsense_instead_of_a_token() {
    for answer in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, "hunter2"] {
        let server = registry(answer, "t").await;
        let error = fetch(&server, &client("", Arc::new(NoCredentials))).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_elsewhere_gets_no_token() {
    let store = Faulty::start(|_, _| Reply::new(200, noise(10))).await;
    let elsewhere = format!("http://{}/data?X-Amz-Signature=abc", store.address);
    let server = Faulty::start(move |seen, _| match (seen.path.starts_with("/token"), seen.header("authorization")) {
        (true, _) => Reply::new(200, r#"{"token":"t"}"#),
        (false, Some(_)) => Reply::new(307, "").header("location", &elsewhere),
        _ => challenge(seen),
    })
    .await;
    fetch(&server, &client("", Arc::new(NoCredentials))).await.unwrap();
    assert_eq!(store.seen()[0].header("authorization"), None);
}
