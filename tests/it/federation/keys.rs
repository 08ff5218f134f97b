//! Keys: published, fetched, passed on, and what they prove.

use std::sync::Arc;

use myelin_core::pdu::build::Signer;
use myelin_storage::server_keys;
use reqwest::Method;
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use crate::support::{Answer, Server, federation};

/// Needs a signature and no more.
const SIGNED: &str = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Ax";

fn server_name(server: &Server) -> OwnedServerName {
    ServerName::parse(&server.name).expect("it has that name")
}

async fn ask(server: &Server, origin: &Signer) -> Answer {
    federation::signed(server, origin, Method::GET, SIGNED, Value::Null).await
}

fn key_id(server: &Server) -> String {
    format!("ed25519:{}", federation::signer(server).key.version())
}

#[tokio::test]
async fn server_publishes_its_keys() {
    let server = Server::start().await;
    let version = server.anyone().get("/_matrix/federation/v1/version").await.ok();
    assert_eq!(version["server"]["name"], "Myelin");
    let keys = server.anyone().get("/_matrix/key/v2/server").await.ok();
    assert_eq!(keys["server_name"], server.name.as_str());
    let signer = federation::signer(&server);
    let id = key_id(&server);
    assert!(keys["verify_keys"][&id]["key"].is_string(), "{keys}");
    // The same keys signed once more have the same signature.
    let mut object: CanonicalJsonObject = serde_json::from_value(keys.clone()).unwrap();
    object.remove("signatures");
    sign_json(&server.name, &signer.key, &mut object).unwrap();
    assert_eq!(serde_json::to_value(object).unwrap(), keys);
    assert_eq!(server.anyone().get(&format!("/_matrix/key/v2/server/{id}")).await.status, 200);
}

#[tokio::test]
async fn notary_passes_on_what_it_fetched_even_from_a_server_that_is_gone() {
    let (a, mut b) = federation::pair().await;
    let fetched = a.anyone().get(&format!("/_matrix/key/v2/query/{}", b.name)).await.ok();
    let (name, notary) = (b.name.clone(), a.name.clone());
    let check = |answer: &Value| {
        let keys = &answer["server_keys"][0];
        assert_eq!(keys["server_name"], name.as_str(), "{answer}");
        assert!(keys["signatures"][&notary].is_object() && keys["signatures"][&name].is_object());
    };
    check(&fetched);
    check(&a.anyone().get(&format!("/_matrix/key/v2/query/{}/{}", b.name, key_id(&b))).await.ok());
    let body = json!({"server_keys": {b.name.clone(): {}, a.name.clone(): {}}});
    let both = a.anyone().post("/_matrix/key/v2/query", body).await.ok();
    assert_eq!(both["server_keys"].as_array().unwrap().len(), 2, "{both}");
    let stored =
        server_keys::list(&a.storage().await.get().await.unwrap(), &[server_name(&b)]).await.unwrap();
    assert!(stored.iter().all(|key| key.is_current) && stored.len() == 1, "{stored:?}");
    b.stop();
    check(&a.anyone().get(&format!("/_matrix/key/v2/query/{}", b.name)).await.ok());
    let nobody = a.anyone().get("/_matrix/key/v2/query/127.0.0.9:1").await.ok();
    assert_eq!(nobody, json!({"server_keys": []}));
}

#[tokio::test]
async fn keys_are_fetched_from_their_server_alone() {
    let (a, b, c) = federation::three().await;
    let body = json!({"server_keys": {b.name.clone(): {}, c.name.clone(): {}}});
    let all = a.anyone().post("/_matrix/key/v2/query", body).await.ok();
    let servers = all["server_keys"].as_array().unwrap().iter().map(|keys| keys["server_name"].as_str());
    assert!(servers.eq([Some(b.name.as_str()), Some(c.name.as_str())]), "{all}");
    let body = json!({"server_keys": {c.name.clone(): {"ed25519:other": {}}}});
    let none = a.anyone().post("/_matrix/key/v2/query", body).await.ok();
    assert_eq!(none, json!({"server_keys": []}), "the server has no such key");
    // A signature where none is asked for does no harm.
    let path = "/_matrix/federation/v1/version";
    federation::signed(&a, &federation::signer(&b), Method::GET, path, Value::Null).await.ok();
    federation::raw(&a, Method::GET, path, "X-Matrix nonsense", String::new()).await.ok();
}

#[tokio::test]
async fn server_with_the_wrong_certificate_is_not_asked() {
    let server = federation::start("127.0.0.2", "").await;
    for (certificate_for, is_asked) in [("127.0.0.9", false), ("127.0.0.8", true)] {
        let listener = TcpListener::bind("127.0.0.8:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = federation::Authority::shared().server_config(certificate_for.parse().unwrap());
        let asked = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(tls)).accept(stream).await else { return false };
            stream.read_u8().await.is_ok()
        };
        let query = format!("/_matrix/key/v2/query/{address}");
        let anyone = server.anyone();
        let (asked, answer) = futures::join!(asked, anyone.get(&query));
        assert_eq!((asked, answer.ok()), (is_asked, json!({"server_keys": []})), "{certificate_for}");
    }
}

#[tokio::test]
async fn signed_requests_are_let_in_and_others_are_not() {
    let (a, b) = federation::pair().await;
    let signer = federation::signer(&a);
    assert_ne!(ask(&b, &signer).await.status, 401);
    b.anyone().get(SIGNED).await.refused(401, "M_UNAUTHORIZED");

    // Somebody else's key under the same id.
    let mut forged = federation::signer(&a);
    let document = Ed25519KeyPair::generate();
    forged.key = Ed25519KeyPair::from_der(&document, signer.key.version().to_owned()).unwrap();
    ask(&b, &forged).await.refused(401, "M_UNAUTHORIZED");
    // A key that the server does not have.
    forged.key = Ed25519KeyPair::from_der(&document, "other".to_owned()).unwrap();
    ask(&b, &forged).await.refused(401, "M_UNAUTHORIZED");
    // A server that is not there, and one that is not another.
    forged.server_name = "127.0.0.9:1".try_into().unwrap();
    ask(&b, &forged).await.refused(401, "M_UNAUTHORIZED");
    ask(&b, &federation::signer(&b)).await.refused(401, "M_UNAUTHORIZED");

    // A request for another server.
    assert_ne!(ask(&a, &federation::signer(&b)).await.status, 401);
    let elsewhere = format!(r#"X-Matrix origin="{}",destination="c.org",key="ed25519:1",sig="YWJj""#, a.name);
    federation::raw(&b, Method::GET, SIGNED, &elsewhere, String::new()).await.refused(401, "M_UNAUTHORIZED");
    federation::raw(&b, Method::GET, SIGNED, "X-Matrix origin=localhost:http", String::new())
        .await
        .refused(400, "M_UNAUTHORIZED");
    federation::raw(&b, Method::GET, SIGNED, "Bearer x", String::new()).await.refused(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn servers_that_are_denied_are_refused() {
    let a = federation::start("127.0.0.2", "").await;
    let b = federation::start("127.0.0.3", &format!("deny = ['{}']", a.name)).await;
    ask(&b, &federation::signer(&a)).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn key_of_a_server_that_is_gone_is_learned_from_a_notary() {
    let (notary, mut gone) = federation::pair().await;
    notary.anyone().get(&format!("/_matrix/key/v2/query/{}", gone.name)).await.ok();
    let signer = federation::signer(&gone);
    gone.stop();
    let server = federation::start_trusting(&notary, "127.0.0.4").await;
    assert_ne!(ask(&server, &signer).await.status, 401);
    let other = federation::start("127.0.0.5", "").await;
    ask(&other, &signer).await.refused(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn without_federation_nothing_of_it_is_served() {
    let server = Server::start_with("[federation]\nenabled = false").await;
    server.anyone().get("/_matrix/key/v2/server").await.refused(404, "M_UNRECOGNIZED");
    server.anyone().get(SIGNED).await.refused(404, "M_UNRECOGNIZED");
    assert_eq!(server.anyone().get("versions").await.status, 404);
    assert_eq!(server.anyone().get("/_matrix/client/versions").await.status, 200);
}

#[tokio::test]
async fn name_for_other_servers_is_told() {
    let server = Server::start_with("[federation]\nadvertise = 'matrix.example.org:443'").await;
    let told = server.anyone().get("/.well-known/matrix/server").await.ok();
    assert_eq!(told, json!({"m.server": "matrix.example.org:443"}));
    Server::start().await.anyone().get("/.well-known/matrix/server").await.refused(404, "M_NOT_FOUND");
}
