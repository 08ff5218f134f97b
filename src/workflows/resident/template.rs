//! Events for other servers to sign: `make_join`, `make_knock` and `make_leave`.

use myelin_actors::room::{messages::SendEvent, view::RoomView};
use myelin_core::{membership::Membership, pdu::json};
use ruma::{
    CanonicalJsonObject, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
};
use serde_json::value::RawValue;

use super::restricted;
use crate::{
    app::App,
    error::MatrixError,
    workflows::{join, member, servers},
};

/// An event that lacks its time, hashes and signatures.
#[derive(Debug)]
pub struct Template {
    /// The version of its room.
    pub version: RoomVersionId,
    /// The event.
    pub event: Box<RawValue>,
}

/// A user who wants to do something in a room, with their server.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The server.
    pub server: &'a ServerName,
    /// The room.
    pub room_id: &'a RoomId,
    /// The user.
    pub user: &'a OwnedUserId,
}

/// A join. Where membership of another room is what lets the user in, it names a user of ours who vouches for that.
pub async fn join(
    app: &App,
    asking: Asking<'_>,
    versions: &[RoomVersionId],
) -> Result<Template, MatrixError> {
    let view = asking.room(app).await?;
    require_version(&view, versions)?;
    let mut content = member::plain(Membership::Join, None);
    if let Some(authoriser) = restricted::authoriser(app, &view, asking.user).await? {
        content.insert(join::AUTHORISER.to_owned(), authoriser.as_str().into());
    }
    asking.template(app, &view, content).await
}

/// A knock.
pub async fn knock(
    app: &App,
    asking: Asking<'_>,
    versions: &[RoomVersionId],
) -> Result<Template, MatrixError> {
    let view = asking.room(app).await?;
    require_version(&view, versions)?;
    if !view.version.rules.authorization.knocking {
        return Err(MatrixError::forbidden("nobody can knock on rooms of this version"));
    }
    asking.template(app, &view, member::plain(Membership::Knock, None)).await
}

/// A leave: of one who is in the room, is invited, or knocks.
pub async fn leave(app: &App, asking: Asking<'_>) -> Result<Template, MatrixError> {
    let view = asking.room(app).await?;
    asking.template(app, &view, member::plain(Membership::Leave, None)).await
}

impl Asking<'_> {
    async fn room(&self, app: &App) -> Result<std::sync::Arc<RoomView>, MatrixError> {
        if self.user.server_name() != self.server {
            return Err(MatrixError::forbidden("this is not a user of your server"));
        }
        servers::room_of_ours(app, self.server, self.room_id).await
    }

    async fn template(
        &self,
        app: &App,
        view: &RoomView,
        content: CanonicalJsonObject,
    ) -> Result<Template, MatrixError> {
        let event = SendEvent::state(self.user.clone(), "m.room.member", self.user.as_str(), content);
        let event = app.actors.rooms.get(self.room_id).await?.template(event).await?;
        let event =
            RawValue::from_string(json::write(view.version, &event)).map_err(MatrixError::internal)?;
        Ok(Template { version: view.version.id.clone(), event })
    }
}

fn require_version(view: &RoomView, versions: &[RoomVersionId]) -> Result<(), MatrixError> {
    if versions.contains(&view.version.id) { Ok(()) } else { Err(incompatible(view.version.id.clone())) }
}

/// One of the two servers does not know the room's version.
pub fn incompatible(version: RoomVersionId) -> MatrixError {
    let why = format!("room version {version} is not supported");
    let data = IncompatibleRoomVersionErrorData::new(version);
    MatrixError::bad_request(ErrorKind::IncompatibleRoomVersion(data), why)
}
