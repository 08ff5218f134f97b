//! From connections to requests: actix's servers, set up for clients that wait.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use actix_http::HttpService;
use actix_service::map_config;
use actix_web::{
    HttpServer,
    dev::{AppConfig, Server, ServiceFactory, ServiceRequest, ServiceResponse, fn_service},
};
use futures::FutureExt;
use rustls::ServerConfig;

use super::{Site, pieces::PIECE};

/// How long a connection is kept on which nothing is asked.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Within which the head of a request has to come.
const REQUEST_HEAD: Duration = Duration::from_secs(60);
/// Seconds that connections have to close when all requests are answered.
const LAST_CONNECTIONS: u64 = 1;

/// How much of the machine a listener takes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Threads.
    pub workers: usize,
    /// Connections of each thread.
    pub most: usize,
}

/// All requests go to the site. What actix has for routes is not used: see [`routes`](super::routes).
fn actix_app(
    site: Arc<Site>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let answer = move |request| Arc::clone(&site).answer(request).map(Ok);
    actix_web::App::new().default_service(fn_service(answer))
}

/// HTTP/1.1 and HTTP/2 over TLS.
pub fn serve_tls(
    socket: TcpListener,
    site: Arc<Site>,
    tls: ServerConfig,
    bounds: Bounds,
) -> io::Result<Server> {
    let server = HttpServer::new(move || actix_app(Arc::clone(&site)))
        .workers(bounds.workers)
        .max_connections(bounds.most)
        .h1_write_buffer_size(PIECE)
        .tcp_nodelay(true)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD)
        .shutdown_timeout(LAST_CONNECTIONS)
        .disable_signals();
    Ok(server.listen_rustls_0_23(socket, tls)?.run())
}

/// HTTP/1.1 without TLS. Most clients come this way, through a proxy, and wait there: this is what [`HttpServer`] does,
/// which would give each connection the space that HTTP/2 needs, three times as much.
pub fn serve_plain(socket: TcpListener, site: Arc<Site>, bounds: Bounds) -> io::Result<Server> {
    let server = Server::build()
        .workers(bounds.workers)
        .max_concurrent_connections(bounds.most)
        .shutdown_timeout(LAST_CONNECTIONS)
        .disable_signals();
    let ending = server.graceful_shutdown_signal();
    let server = server.listen("http", socket, move || {
        let ending = ending.clone();
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .h1_write_buffer_size(PIECE)
            .tcp_nodelay(true)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_HEAD)
            .h1(map_config(actix_app(Arc::clone(&site)), |()| AppConfig::default()))
            .tcp()
    })?;
    Ok(server.run())
}
