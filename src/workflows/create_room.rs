//! Making a room: its first events in one commit, then its alias and its place in the directory.

pub mod plan;
pub mod power;

use futures::{StreamExt, stream};
use myelin_actors::{registry::CreateRoom, room::error::RoomError};
use myelin_core::version::RoomVersion;
use myelin_storage::directory::{self, OWN_NETWORK};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    api::{client::room::create_room::v3::RoomPreset, error::ErrorKind},
};
use tokio::sync::MutexGuard;
use tracing::warn;

use self::plan::{Plan, PlanError};
use super::{aliases, member, membership, remote_invite, summary};
use crate::{app::App, error::MatrixError, sessions::User};

/// How many invites of users of other servers are under way at the same time.
const INVITES_AT_ONCE: usize = 8;

impl From<PlanError> for MatrixError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::AdditionalCreators => Self::invalid_param(error.to_string()),
            PlanError::CreatorHasLevel | PlanError::CreatorHasNoLevel => Self::bad_json(error.to_string()),
        }
    }
}

/// The version of a new room. `None`: the one that the configuration names.
pub fn version(app: &App, wanted: Option<&RoomVersionId>) -> Result<&'static RoomVersion, MatrixError> {
    let wanted = wanted.unwrap_or(&app.config.rooms.default_version);
    myelin_core::version::find(wanted).ok_or_else(|| {
        MatrixError::bad_request(
            ErrorKind::UnsupportedRoomVersion,
            format!("this server does not support room version {wanted}"),
        )
    })
}

/// Which defaults a room begins with. `None`: those that fit where it is listed.
pub fn preset(wanted: Option<&RoomPreset>, is_published: bool) -> Result<RoomPreset, MatrixError> {
    let usual = if is_published { RoomPreset::PublicChat } else { RoomPreset::PrivateChat };
    match wanted.unwrap_or(&usual) {
        known @ (RoomPreset::PrivateChat | RoomPreset::PublicChat | RoomPreset::TrustedPrivateChat) => {
            Ok(known.clone())
        }
        unknown => Err(MatrixError::invalid_param(format!("there is no preset {unknown}"))),
    }
}

/// An alias that nobody else of this process takes while this is held.
#[derive(Debug)]
pub struct HeldAlias<'a> {
    /// The alias.
    pub alias: OwnedRoomAliasId,
    _held: MutexGuard<'a, ()>,
}

/// The alias with this local part. Refused when it is no alias, or taken. Who else asks for it waits until it is taken
/// or given up.
pub async fn free_alias<'a>(app: &'a App, local_part: &str) -> Result<HeldAlias<'a>, MatrixError> {
    let alias = aliases::of_local_part(app, local_part)?;
    let held = app.memory.locks.aliases.lock(&alias).await;
    let client = app.storage.get().await?;
    if directory::find_alias(&client, &alias).await?.is_some() {
        return Err(in_use(&alias));
    }
    Ok(HeldAlias { alias, _held: held })
}

fn in_use(alias: &OwnedRoomAliasId) -> MatrixError {
    MatrixError::bad_request(ErrorKind::RoomInUse, format!("the alias {alias} is taken"))
}

/// Makes the room that is planned. An error means that there is no room.
pub async fn create(
    app: &App,
    by: &User,
    mut plan: Plan,
    is_published: bool,
) -> Result<OwnedRoomId, MatrixError> {
    let people: Vec<OwnedUserId> = std::iter::once(&plan.creator).chain(&plan.invite).cloned().collect();
    membership::check_invitable(app, &plan.invite).await?;
    plan.profiles = member::profiles(app, &people).await?;
    let request = CreateRoom { version: plan.version.id.clone(), room_id: None, events: plan.events()? };
    let room_id = app.actors.rooms.create(request).await.map_err(|error| match error {
        // The first events are the creator's own: what forbids one of them is another that was asked for.
        RoomError::Forbidden(why) => MatrixError::bad_request(ErrorKind::InvalidRoomState, why),
        error => error.into(),
    })?;
    if let Some(alias) = &plan.alias {
        take_alias(app, by, alias, &room_id).await?;
    }
    if is_published {
        publish(app, &room_id, true).await?;
    } else {
        summary::refresh(app, &room_id).await?;
    }
    invite_elsewhere(app, &plan, &room_id).await;
    Ok(room_id)
}

/// Invites users of other servers. That some of them cannot be invited does not undo the room.
async fn invite_elsewhere(app: &App, plan: &Plan, room_id: &RoomId) {
    let inviting = stream::iter(plan.remote_invites()).for_each_concurrent(INVITES_AT_ONCE, async |event| {
        if let Err(error) = remote_invite::invite(app, room_id, event).await {
            warn!(room.id = %room_id, %error, "a user of another server could not be invited to a new room");
        }
    });
    inviting.await;
}

/// Puts the room on this server's own list, or takes it off.
pub async fn publish(app: &App, room_id: &RoomId, is_published: bool) -> Result<(), MatrixError> {
    let room = app.actors.rooms.view(room_id).await?.nid;
    directory::set_published(&app.storage.get().await?, room, OWN_NETWORK, is_published).await?;
    if is_published { summary::begin(app, room_id).await } else { Ok(()) }
}

/// Lets the alias lead to the new room. Another process may have taken it since it was found free: then the creator
/// leaves the room again, and nothing leads there.
async fn take_alias(
    app: &App,
    by: &User,
    alias: &OwnedRoomAliasId,
    room_id: &RoomId,
) -> Result<(), MatrixError> {
    let room = app.actors.rooms.view(room_id).await?.nid;
    if aliases::create(app, alias, room, by.nid).await? {
        return Ok(());
    }
    membership::leave(app, by, room_id, None).await?;
    membership::forget(app, by.nid, room_id).await?;
    Err(in_use(alias))
}
