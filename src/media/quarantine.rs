//! Quarantine: administrators take media out of sight, one by one, all of a user, or all that a room shows.

use std::collections::BTreeSet;

use myelin_core::nid::{RoomNid, UserNid};
use myelin_storage::media::quarantine;
use ruma::{MxcUri, OwnedServerName, ServerName, UserId};
use serde_json::Value;

use super::{download::not_found, id::MediaId};
use crate::{app::App, error::MatrixError};

/// Takes media out of sight, or shows it again.
pub async fn set(
    app: &App,
    by: &UserId,
    server_name: &ServerName,
    media_id: &MediaId,
    is_hidden: bool,
) -> Result<(), MatrixError> {
    let client = app.storage.get().await?;
    let (server, id, by) = (server_name.as_str(), media_id.as_str(), by.as_str());
    let is_changed = match (app.is_ours(server_name), is_hidden) {
        (true, true) => quarantine::add_local(&client, &[id], by).await? > 0,
        (false, true) => quarantine::add_remote(&client, &[server], &[id], by).await? > 0,
        (true, false) => quarantine::remove_local(&client, id).await?,
        (false, false) => quarantine::remove_remote(&client, server, id).await?,
    };
    let is_known = is_changed || !app.is_ours(server_name) || is_local(app, id).await?;
    if is_known { Ok(()) } else { Err(not_found()) }
}

async fn is_local(app: &App, media_id: &str) -> Result<bool, MatrixError> {
    Ok(myelin_storage::media::local::find(&app.storage.get().await?, media_id).await?.is_some())
}

/// Takes all out of sight that the user has uploaded. Returns how much was in sight.
pub async fn add_of_user(app: &App, by: &UserId, user: UserNid) -> Result<u64, MatrixError> {
    Ok(quarantine::add_of_user(&app.storage.get().await?, user, by.as_str()).await?)
}

/// Takes all out of sight that events of the room show. Returns how much was in sight.
pub async fn add_in_room(app: &App, by: &UserId, room: RoomNid) -> Result<u64, MatrixError> {
    let client = app.storage.get().await?;
    let shown: BTreeSet<_> = quarantine::list_events_with_media(&client, room)
        .await?
        .iter()
        .filter_map(|event| serde_json::from_str(event).ok())
        .flat_map(|event: Value| shown_in(&event))
        .collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = shown.iter().partition(|(server, _)| app.is_ours(server));
    let ours: Vec<&str> = ours.iter().map(|(_, id)| id.as_str()).collect();
    let (servers, ids): (Vec<&str>, Vec<&str>) =
        theirs.iter().map(|(server, id)| (server.as_str(), id.as_str())).unzip();
    let ours = quarantine::add_local(&client, &ours, by.as_str()).await?;
    Ok(ours + quarantine::add_remote(&client, &servers, &ids, by.as_str()).await?)
}

/// The media that clients show for an event.
fn shown_in(event: &Value) -> Vec<(OwnedServerName, String)> {
    const PLACES: [&str; 5] =
        ["/url", "/file/url", "/info/thumbnail_url", "/info/thumbnail_file/url", "/avatar_url"];
    let content = &event["content"];
    let addresses = PLACES.iter().filter_map(|place| content.pointer(place)?.as_str());
    let parsed = addresses.filter_map(|address| {
        let (server, id) = <&MxcUri>::from(address).parts().ok()?;
        let server = ServerName::parse(server.as_str()).ok()?;
        MediaId::parse(id).map(|id| (server, id.as_str().to_owned()))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_event_shows_is_found() {
        let event = json!({"content": {
            "body": "mxc://a.test/no",
            "url": "mxc://a.test/1",
            "file": {"url": "mxc://b.test/2"},
            "info": {"thumbnail_url": "mxc://a.test/3", "thumbnail_file": {"url": "https://x/y"}},
            "avatar_url": "mxc://a.test/../4",
        }});
        let shown: Vec<String> =
            shown_in(&event).iter().map(|(server, id)| format!("{server}/{id}")).collect();
        assert_eq!(shown, ["a.test/1", "b.test/2", "a.test/3"]);
        assert!(shown_in(&json!({"content": 7})).is_empty());
    }
}
