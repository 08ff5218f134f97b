//! Servers that talk to each other, over TLS on addresses of the loopback interface.
//!
//! ```text
//! let (a, b) = federation::pair().await;
//! let (alice, bob) = (a.user("alice").await, b.user("bob").await);
//! ```
//!
//! Each has its name from its address (`127.0.0.2:PORT`), serves other servers there and clients at a port without
//! TLS, and trusts an authority of this process alone. [`signed`] asks a server in the name of another one;
//! [`Authority`] is for servers that tests play themselves.

use std::{
    fs,
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use myelin_core::{pdu::build::Signer, request::SignedRequest};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Method;
use ruma::{ServerName, serde::Base64, signatures::Ed25519KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;

use super::{
    Answer, Server,
    database::{self, Database},
};

/// Who vouches for the servers of a test.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One that nobody trusts yet.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("there is randomness");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("the key can sign").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// The one of [`start`], [`pair`] and [`three`].
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Authority> = LazyLock::new(Authority::new);
        &SHARED
    }

    /// The section of the configuration with which a server trusts it, and talks to servers on this machine. It may
    /// be followed by more settings of that section.
    pub fn settings(&self) -> String {
        let directory = database::place();
        let file = directory.join(format!("authority-{:p}.crt", self.certificate.as_ptr()));
        fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
        fs::write(&file, &self.certificate).expect("our own directory");
        format!(
            "[federation]\nca_files = ['{}']\nallow_addresses = ['127.0.0.0/8']\nnotaries = []\n",
            file.display()
        )
    }

    /// A certificate for these names and addresses, and its key: both as files in the directory.
    pub fn certificate(&self, names: &[&str], directory: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(names);
        let (certificate_file, key_file) = (directory.join("tls.crt"), directory.join("tls.key"));
        fs::write(&certificate_file, certificate.pem()).expect("our own directory");
        fs::write(&key_file, key.serialize_pem()).expect("our own directory");
        (certificate_file, key_file)
    }

    /// The TLS of a server at this address that the test plays itself.
    pub fn server_config(&self, address: IpAddr) -> ServerConfig {
        self.server_config_for(&[&address.to_string()])
    }

    /// The TLS of a server with these names that the test plays itself.
    pub fn server_config_for(&self, names: &[&str]) -> ServerConfig {
        let (certificate, key) = self.issue(names);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a private key");
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they fit")
    }

    /// The TLS of who believes this authority alone.
    pub fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        roots.add(certificate.expect("it is a certificate")).expect("it is an authority");
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn issue(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("there is randomness");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("the names are valid");
        (params.signed_by(&key, &self.issuer).expect("the authority can sign"), key)
    }
}

/// A port that is free at this address.
pub fn free_port(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Two servers.
pub async fn pair() -> (Server, Server) {
    futures::join!(start("127.0.0.2", ""), start("127.0.0.3", ""))
}

/// Three servers.
pub async fn three() -> (Server, Server, Server) {
    futures::join!(start("127.0.0.2", ""), start("127.0.0.3", ""), start("127.0.0.4", ""))
}

/// One server at this address of the loopback interface, with more settings of `[federation]` than usual, which other
/// sections may follow.
pub async fn start(address: &str, settings: &str) -> Server {
    start_with(address, &Authority::shared().settings(), settings).await
}

/// One server at this address that believes this notary.
pub async fn start_trusting(notary: &Server, address: &str) -> Server {
    let trusting = format!("notaries = ['{}']", notary.name);
    start_with(address, &Authority::shared().settings().replace("notaries = []", &trusting), "").await
}

/// One server of this name, with a certificate for those names; where it is others have to find out. And its port at
/// this address.
pub async fn start_named(name: &str, address: &str, certificate_for: &[&str]) -> (Server, u16) {
    let port = free_port(address);
    let settings = Authority::shared().settings();
    (start_as(name, address, port, certificate_for, &settings).await, port)
}

async fn start_with(address: &str, federation: &str, settings: &str) -> Server {
    let port = free_port(address);
    let settings = format!("{federation}\n{settings}");
    start_as(&format!("{address}:{port}"), address, port, &[address, "localhost"], &settings).await
}

async fn start_as(name: &str, address: &str, port: u16, certificate_for: &[&str], settings: &str) -> Server {
    let database = Database::fresh().await;
    let (certificate, key) = Authority::shared().certificate(certificate_for, &database.directory);
    let settings = format!(
        r#"
            [[listeners]]
            bind = "{address}"
            port = {port}
            surfaces = ["client", "federation"]
            tls_certificate = "{}"
            tls_private_key = "{}"

            {settings}
        "#,
        certificate.display(),
        key.display(),
    );
    Server::start_as(name, database, settings).await
}

/// The key with which a server signs.
pub fn signer(server: &Server) -> Signer {
    let line = fs::read_to_string(server.directory().join("signing.key")).expect("it has made its key");
    let mut words = line.split_whitespace().skip(1);
    let version = words.next().expect("keys have versions").to_owned();
    let document: Base64 = Base64::parse(words.next().expect("here is the key")).expect("it is base64");
    let key = Ed25519KeyPair::from_der(document.as_bytes(), version).expect("the server uses it");
    Signer { server_name: ServerName::parse(&server.name).expect("it has that name"), key }
}

/// Asks `server` in the name of `origin`, which signs. No body: null. The path starts at the root.
pub async fn signed(server: &Server, origin: &Signer, method: Method, path: &str, body: Value) -> Answer {
    let content = if body.is_null() { String::new() } else { body.to_string() };
    let destination = ServerName::parse(&server.name).expect("it has that name");
    let request = SignedRequest {
        method: method.as_str(),
        uri: path,
        origin: &origin.server_name,
        destination: &destination,
        content: content.as_bytes(),
    };
    let header = request.sign(origin).expect("tests send JSON");
    raw(server, method, path, &header, content).await
}

/// Asks `server` with this `Authorization`.
pub async fn raw(server: &Server, method: Method, path: &str, header: &str, body: String) -> Answer {
    let request = server.anyone().request(method, path).header("authorization", header);
    Answer::to(request.header("content-type", "application/json").body(body)).await
}
