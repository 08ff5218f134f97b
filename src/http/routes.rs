//! The table of routes: which handler answers which method and path.
//!
//! Paths are matched segment by segment on the raw path, so that an argument may contain an encoded slash, and
//! before arguments are decoded. A fixed segment wins over an argument; a path that fits in two ways is served by
//! the way that has the method.

use std::{collections::HashMap, fmt};

use actix_web::HttpResponse;
use futures::future::LocalBoxFuture;
use http::Method;

use super::{
    incoming::{Incoming, decode},
    rate_limit::RateClass,
};
use crate::{app::App, error::MatrixError};

/// What answers requests: everything between the route and the response.
pub type Endpoint = Box<dyn Fn(App, Box<Incoming>) -> Served + Send + Sync>;

/// The answer to come. It stays on the worker that took the request.
pub type Served = LocalBoxFuture<'static, Result<HttpResponse, MatrixError>>;

/// How a body is bounded and checked before its parser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON, as nearly everywhere.
    Json,
    /// Anything. Only a handler that reads it piece by piece takes more of it than there may be of JSON.
    Bytes,
}

/// What the table says of a route besides its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Guests may use it.
    pub guests: bool,
    /// Users who are locked may use it.
    pub locked: bool,
    /// How often it may be used.
    pub rate: RateClass,
    /// What its body is.
    pub body: BodyKind,
    /// Its answer may be long in coming.
    pub waits: bool,
}

/// An endpoint with all its paths.
pub struct Route {
    /// The method; `GET` serves `HEAD` too.
    pub method: Method,
    /// The paths, as in the specification: `/a/{b}`.
    pub paths: Vec<String>,
    /// What the table says of it.
    pub options: Options,
    /// What answers.
    pub endpoint: Endpoint,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.method, self.paths)
    }
}

/// Routes, and the way to find one.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    fixed: HashMap<String, Node>,
    argument: Option<Box<Node>>,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Debug)]
struct Leaf {
    method: Method,
    route: usize,
    /// The path lacks the route's last argument, which is then empty.
    lacks_last: bool,
}

/// What the table has for a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// A route, and the arguments in its path.
    Route(&'a Route, Vec<String>),
    /// The path, but with these methods only.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl Routes {
    /// Adds an endpoint. What may be said of it beyond the defaults is said on what this returns.
    ///
    /// # Panics
    ///
    /// When two endpoints claim one path and method: a fault of the table, seen by every test.
    pub fn insert(
        &mut self,
        method: Method,
        paths: Vec<String>,
        options: Options,
        endpoint: Endpoint,
    ) -> Added<'_> {
        let index = self.routes.len();
        for path in &paths {
            self.root.insert(path, Leaf { method: method.clone(), route: index, lacks_last: false });
        }
        self.routes.push(Route { method, paths, options, endpoint });
        Added { routes: self, index }
    }

    /// The route for this method and raw path.
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let mut search = Search { method, arguments: Vec::new(), others: Vec::new() };
        match self.root.find(&segments, &mut search) {
            Some(leaf) => {
                let last = leaf.lacks_last.then(String::new);
                let arguments: Option<Vec<String>> = search.arguments.into_iter().map(decode).collect();
                match arguments {
                    Some(arguments) => {
                        let arguments = arguments.into_iter().chain(last).collect();
                        Found::Route(&self.routes[leaf.route], arguments)
                    }
                    None => Found::Nothing,
                }
            }
            None if search.others.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.others),
        }
    }

    /// Every method and path that is served, sorted.
    pub fn list(&self) -> Vec<(String, String)> {
        let lines = |route: &Route| {
            let method = route.method.to_string();
            route.paths.iter().map(move |path| (method.clone(), path.clone())).collect::<Vec<_>>()
        };
        let mut list: Vec<_> = self.routes.iter().flat_map(lines).collect();
        list.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        list
    }
}

struct Search<'a> {
    method: &'a Method,
    arguments: Vec<&'a str>,
    /// Methods that other endpoints have on the same path.
    others: Vec<Method>,
}

impl Node {
    fn insert(&mut self, path: &str, leaf: Leaf) {
        let mut node = self;
        for segment in path.split('/').skip(1) {
            node = if segment.starts_with('{') {
                node.argument.get_or_insert_default()
            } else {
                node.fixed.entry(segment.to_owned()).or_default()
            };
        }
        let taken = node.leaves.iter().any(|other| other.method == leaf.method);
        assert!(!taken, "two endpoints claim {} {path}", leaf.method);
        node.leaves.push(leaf);
    }

    fn find<'a>(&self, segments: &[&'a str], search: &mut Search<'a>) -> Option<&Leaf> {
        let Some((first, rest)) = segments.split_first() else {
            let leaf = self.leaves.iter().find(|leaf| leaf.method == *search.method);
            if leaf.is_none() {
                search.others.extend(self.leaves.iter().map(|leaf| leaf.method.clone()));
            }
            return leaf;
        };
        if let Some(leaf) = self.fixed.get(*first).and_then(|node| node.find(rest, search)) {
            return Some(leaf);
        }
        let node = self.argument.as_ref().filter(|_| !first.is_empty())?;
        search.arguments.push(first);
        let leaf = node.find(rest, search);
        if leaf.is_none() {
            search.arguments.pop();
        }
        leaf
    }
}

/// An endpoint that was just added to the table.
pub struct Added<'a> {
    routes: &'a mut Routes,
    index: usize,
}

impl Added<'_> {
    fn options(&mut self) -> &mut Options {
        &mut self.routes.routes[self.index].options
    }

    /// Guests may use it.
    pub fn guests(&mut self) -> &mut Self {
        self.options().guests = true;
        self
    }

    /// Users who are locked may use it.
    pub fn locked(&mut self) -> &mut Self {
        self.options().locked = true;
        self
    }

    /// How often it may be used, when not as often as most endpoints.
    pub fn rate(&mut self, rate: RateClass) -> &mut Self {
        self.options().rate = rate;
        self
    }

    /// Its body is no JSON.
    pub fn bytes(&mut self) -> &mut Self {
        self.options().body = BodyKind::Bytes;
        self
    }

    /// Its answer may be long in coming: what the request no longer needs is let go before.
    pub fn waits(&mut self) -> &mut Self {
        self.options().waits = true;
        self
    }

    /// It is also found at this path, with the same arguments.
    pub fn also_at(&mut self, path: &str) -> &mut Self {
        self.alias(path, false)
    }

    /// It is also found at this path, which lacks the last argument: that is then the empty string.
    pub fn without_last_argument_at(&mut self, path: &str) -> &mut Self {
        self.alias(path, true)
    }

    fn alias(&mut self, path: &str, lacks_last: bool) -> &mut Self {
        let route = &mut self.routes.routes[self.index];
        self.routes.root.insert(path, Leaf { method: route.method.clone(), route: self.index, lacks_last });
        route.paths.push(path.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let mut routes = Routes::default();
        let mut add = |method: Method, path: &str| {
            let options = Options {
                guests: false,
                locked: false,
                rate: RateClass::Unlimited,
                body: BodyKind::Json,
                waits: false,
            };
            let endpoint: Endpoint = Box::new(|_, _| Box::pin(async { Ok(HttpResponse::Ok().finish()) }));
            let mut added = routes.insert(method, vec![path.to_owned()], options, endpoint);
            if path.ends_with("{state_key}") {
                added
                    .without_last_argument_at("/rooms/{room_id}/state/{type}")
                    .without_last_argument_at("/rooms/{room_id}/state/{type}/");
            }
        };
        add(Method::GET, "/profile/{user}/displayname");
        add(Method::DELETE, "/profile/{user}/{field}");
        add(Method::GET, "/rooms/{room_id}/state/{type}/{state_key}");
        add(Method::GET, "/pushrules/");
        routes
    }

    fn check(method: &Method, path: &str, expected: &str) {
        let found = match routes().find(method, path) {
            Found::Route(route, arguments) => format!("{} {}", route.paths[0], arguments.join("|")),
            Found::OtherMethods(methods) => format!("{methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found, expected, "{method} {path}");
    }

    #[test]
    fn paths_find_their_routes() {
        check(&Method::GET, "/profile/@a:b/displayname", "/profile/{user}/displayname @a:b");
        check(&Method::HEAD, "/profile/@a:b/displayname", "/profile/{user}/displayname @a:b");
        check(&Method::DELETE, "/profile/@a:b/displayname", "/profile/{user}/{field} @a:b|displayname");
        check(&Method::PUT, "/profile/@a:b/displayname", "[GET, DELETE]");
        check(&Method::GET, "/profile/@a:b", "nothing");
        check(&Method::GET, "/profile//displayname", "nothing");
        check(&Method::GET, "/pushrules/", "/pushrules/ ");
        check(&Method::GET, "/pushrules", "nothing");
        check(&Method::GET, "/elsewhere", "nothing");
    }

    #[test]
    fn arguments_may_contain_slashes_and_be_absent() {
        let path = "/rooms/{room_id}/state/{type}/{state_key}";
        check(&Method::GET, "/rooms/!a%2Fb/state/m.x/k%252F", &format!("{path} !a/b|m.x|k%2F"));
        check(&Method::GET, "/rooms/!a/state/m.x", &format!("{path} !a|m.x|"));
        check(&Method::GET, "/rooms/!a/state/m.x/", &format!("{path} !a|m.x|"));
        check(&Method::GET, "/rooms/!%ff/state/m.x", "nothing");
    }

    #[test]
    #[should_panic(expected = "two endpoints claim GET /pushrules/")]
    fn one_path_has_one_endpoint() {
        let mut routes = routes();
        routes.root.insert("/pushrules/", Leaf { method: Method::GET, route: 0, lacks_last: false });
    }
}
