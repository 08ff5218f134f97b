//! What the configuration names, looked at before anything starts: what the server would stumble over later.

use std::net::ToSocketAddrs;

use anyhow::Context;
use myelin_storage::DatabaseUrl;

use crate::{
    accounts::passwords::Passwords,
    config::{Config, Listener},
    remote, tls,
};

/// Whether the server could start with it: addresses, certificates and costs are such as can be used. Changes nothing.
pub fn check(config: &Config) -> anyhow::Result<()> {
    if let Some(url) = &config.database.url {
        url.expose().parse::<DatabaseUrl>().context("database.url cannot be used")?;
    }
    Passwords::new(&config.password).context("the cost in `password` cannot be used")?;
    remote::connect::check_authorities(&config.federation.ca_files)?;
    config.listeners.iter().try_for_each(check_listener)
}

fn check_listener(listener: &Listener) -> anyhow::Result<()> {
    let address = listener.address();
    address
        .to_socket_addrs()
        .with_context(|| format!("cannot listen at {address}: there is no such address"))?;
    if let (Some(certificate), Some(key)) = (&listener.tls_certificate, &listener.tls_private_key) {
        tls::Certificate::read(certificate, key)?;
    }
    Ok(())
}
