//! What administrators see of other servers: those that are told what happens here, and joins that are under way.
//! Of users: [`user`].
//!
//! Requests and answers are those of Synapse, so that its tools work.
//! <https://element-hq.github.io/synapse/latest/usage/administration/admin_api/federation.html>

pub mod user;

use myelin_actors::federation::destination::DestinationStatus;
use ruma::{OwnedServerName, api::auth_scheme::AccessToken};
use serde_json::{Value, json};

use super::events::number;
use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Plain, response::JsonText},
    workflows::remote_join::progress::Stage,
};

/// How many servers are listed when it is not said.
const USUAL: u64 = 100;

/// `GET /_synapse/admin/v1/federation/destinations`
pub async fn list_destinations(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    let from = usize::try_from(number(&req, "from")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(number(&req, "limit")?.unwrap_or(USUAL)).unwrap_or(usize::MAX);
    let mut list = app.actors.federation.list();
    if let Some(part) = req.query("destination") {
        list.retain(|status| status.server.as_str().contains(&part));
    }
    sort(&mut list, req.query("order_by").as_deref().unwrap_or("destination"))?;
    match req.query("dir").as_deref() {
        None | Some("f") => {}
        Some("b") => list.reverse(),
        Some(_) => return Err(MatrixError::invalid_param("dir is neither f nor b")),
    }
    let total = list.len();
    let page: Vec<Value> = list.iter().skip(from).take(limit).map(shown).collect();
    let next = from.saturating_add(page.len());
    let mut answer = json!({ "destinations": page, "total": total });
    if next < total && !page.is_empty() {
        answer["next_token"] = next.to_string().into();
    }
    JsonText::of(&answer)
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}`
pub async fn get_destination(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    JsonText::of(&shown(&find(&app, &req)?))
}

/// `POST /_synapse/admin/v1/federation/destinations/{destination}/reset_connection`
pub async fn reset_connection(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    if app.actors.federation.reset(&find(&app, &req)?.server) {
        return Ok(JsonText::empty());
    }
    Err(MatrixError::unknown("the last attempt at this destination did not fail"))
}

/// `GET /_myelin/admin/v1/joins`
///
/// Joins of rooms of other servers that are under way, which Synapse does not list.
pub async fn list_joins(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    let mut joins = app.memory.others.joins.list();
    joins.sort_unstable_by_key(|join| join.started_ms);
    let joins: Vec<Value> = joins
        .iter()
        .map(|join| {
            let stage = match &join.stage {
                Stage::Beginning => json!({ "stage": "beginning" }),
                Stage::Asking(server) => json!({ "stage": "asking", "server": server }),
                Stage::Checking { done, total } => {
                    json!({ "stage": "checking", "done": done, "total": total })
                }
                Stage::Storing(total) => json!({ "stage": "storing", "total": total }),
            };
            json!({
                "room_id": join.room_id, "user_id": join.user_id, "started_ts": join.started_ms, "at": stage,
            })
        })
        .collect();
    JsonText::of(&json!({ "joins": joins }))
}

fn find(app: &App, req: &Plain<AccessToken>) -> Result<DestinationStatus, MatrixError> {
    let unknown = || MatrixError::not_found("nothing was ever sent to this destination");
    let name = req.args.first().ok_or_else(unknown)?;
    let name = OwnedServerName::try_from(name.as_str()).map_err(|_| unknown())?;
    app.actors.federation.status(&name).ok_or_else(unknown)
}

fn sort(list: &mut [DestinationStatus], by: &str) -> Result<(), MatrixError> {
    match by {
        // They come so.
        "destination" => {}
        "retry_last_ts" => list.sort_by_key(last_retry_ms),
        "retry_interval" => list.sort_by_key(|status| status.retry_interval_ms),
        "failure_ts" => list.sort_by_key(|status| status.failing_since_ms),
        // Who lacks nothing has acknowledged more than anybody else.
        "last_successful_stream_ordering" => {
            list.sort_by_key(|status| (status.acknowledged.is_none(), status.acknowledged));
        }
        _ => return Err(MatrixError::invalid_param("order_by is nothing to order by")),
    }
    Ok(())
}

/// When the server was tried last; 0: it does not fail.
fn last_retry_ms(status: &DestinationStatus) -> u64 {
    status.retry_at_ms.map_or(0, |retry_at_ms| retry_at_ms.saturating_sub(status.retry_interval_ms))
}

fn shown(status: &DestinationStatus) -> Value {
    json!({
        "destination": status.server,
        "retry_last_ts": last_retry_ms(status),
        "retry_interval": status.retry_interval_ms,
        "failure_ts": status.failing_since_ms,
        "last_successful_stream_ordering": status.acknowledged.map(|position| position.0),
    })
}
