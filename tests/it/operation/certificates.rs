//! Renewed certificates.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::support::{
    Server,
    federation::{self, Authority},
    user::PATIENCE,
};

const ADDRESS: &str = "127.0.0.2";

/// Whether who believes this authority alone believes the server.
async fn is_believed(server: &Server, authority: &Authority) -> bool {
    let stream = TcpStream::connect(&server.name).await.expect("it listens");
    let name = ServerName::try_from(ADDRESS).expect("an address");
    TlsConnector::from(Arc::new(authority.client_config())).connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn renewed_certificate_is_shown_after_sighup() {
    let server = federation::start(ADDRESS, "").await;
    let (old, new) = (Authority::shared(), Authority::new());
    new.certificate(&[ADDRESS, "localhost"], server.directory());
    assert!(is_believed(&server, old).await && !is_believed(&server, &new).await);
    server.signal("HUP");
    let renewed = async {
        while !is_believed(&server, &new).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("it reads it again");
    assert!(!is_believed(&server, old).await);

    // A file that cannot be read changes nothing.
    std::fs::write(server.directory().join("tls.crt"), "no certificate").expect("our own directory");
    server.signal("HUP");
    server.anyone().get("/_matrix/client/versions").await.ok();
    assert!(is_believed(&server, &new).await);
}
