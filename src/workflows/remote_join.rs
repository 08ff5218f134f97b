//! Joining a room with the help of a server that is in it.
//!
//! A server makes a template, takes the signed join, and answers with the room's state, all of which is checked here
//! before the room gets it. What was stored when that is interrupted does no harm: the same again finds it known.

pub mod answer;
pub mod progress;

use myelin_actors::{remote::RemoteError, room::messages::Received};
use myelin_core::{membership::Membership, pdu::Pdu};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::federation::membership::{
        create_join_event::v2 as create_join_event, prepare_join_event::v1 as prepare_join_event,
    },
};
use serde_json::value::RawValue;
use tracing::{info, warn};

use self::{
    answer::Proven,
    progress::{Running, Stage},
};
use super::{
    attempts::Attempts,
    candidates, edus,
    template::{self, Purpose},
};
use crate::{
    app::App,
    error::MatrixError,
    remote::old::{self, HandedOver},
    sessions::User,
};

/// Joins the user to a room with the help of other servers: those named, and those that may know it. When it is under
/// way already, this waits for what comes of that. It goes on when nobody waits any more.
pub async fn join(
    app: &App,
    by: &User,
    room_id: &RoomId,
    via: &[OwnedServerName],
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let joins = &app.memory.others.joins;
    let (waiting, running) = joins.enter(room_id.to_owned(), by.id.clone(), app.process.clock.now_ms());
    if let Some(running) = running {
        let servers = candidates::for_user(app, by, room_id, via).await?;
        let wish =
            Wish { app: app.clone(), room_id: room_id.to_owned(), user_id: by.id.clone(), content, running };
        app.process.io.spawn(wish.fulfil(servers));
    }
    waiting.outcome().await
}

/// Who wants to join what.
struct Wish {
    app: App,
    room_id: ruma::OwnedRoomId,
    user_id: OwnedUserId,
    content: CanonicalJsonObject,
    running: Running,
}

impl Wish {
    async fn fulfil(self, servers: Vec<OwnedServerName>) {
        let outcome = self.try_all(&servers).await;
        let Self { app, running, room_id, .. } = self;
        running.finish(outcome);
        // What was sent here of the room meanwhile waits in its queue.
        app.actors.inbound.wake([room_id]);
        if let Err(error) = edus::presence::release(&app).await {
            warn!(%error, "it is not known who is online in a room that was joined");
        }
    }

    async fn try_all(&self, servers: &[OwnedServerName]) -> Result<(), MatrixError> {
        let mut attempts = Attempts::default();
        for server in servers {
            info!(room.id = %self.room_id, %server, "joining a room with the help of a server");
            self.running.at(Stage::Asking(server.clone()));
            match self.join_by(server).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.failed(server, error)?,
            }
        }
        Err(attempts.error())
    }

    async fn join_by(&self, server: &ServerName) -> Result<(), MatrixError> {
        let app = &self.app;
        let purpose =
            Purpose { room_id: &self.room_id, user_id: &self.user_id, membership: Membership::Join };
        let mut request = prepare_join_event::Request::new(self.room_id.clone(), self.user_id.clone());
        request.ver = template::versions();
        let made = app.remote.request(server, request).await?;
        let template = template::read(purpose, made.room_version.as_ref(), &made.event)?;
        let version = template.version.id.clone();
        self.running.is_of(template.version);
        let join = template.complete(app, purpose, self.content.clone())?;
        let answer = self.send(server, &join).await?;
        let proven = answer::check(app, &self.room_id, join, answer, &self.running).await?;
        self.store(&version, proven).await
    }

    async fn send(
        &self,
        server: &ServerName,
        join: &Pdu,
    ) -> Result<create_join_event::RoomState, MatrixError> {
        let pdu = RawValue::from_string(join.json().to_owned()).map_err(MatrixError::internal)?;
        let (remote, event_id) = (&self.app.remote, join.event_id());
        let request = create_join_event::Request::new(self.room_id.clone(), event_id.to_owned(), pdu.clone());
        match remote.request_large(server, request).await {
            Ok(answer) => Ok(answer.room_state),
            Err(error) if old::is_old(&error) => {
                let ids = (&*self.room_id, event_id);
                Ok(remote.hand_over_v1(server, HandedOver::Join, ids, &pdu, remote.large()).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands the room its state, and then the join.
    async fn store(&self, version: &RoomVersionId, proven: Proven) -> Result<(), MatrixError> {
        let room = self.app.actors.rooms.begin(&self.room_id, version).await?;
        self.running.at(Stage::Storing(proven.events.len()));
        let stored = room.receive_outliers(proven.events).await?;
        let is_usable = |id: &OwnedEventId| {
            matches!(stored.get(id), Some(Received::Accepted | Received::Known | Received::SoftFailed(_)))
        };
        let state: Vec<OwnedEventId> = proven.state.into_iter().filter(is_usable).collect();
        let count = state.len();
        match room.receive_at(proven.join, state).await? {
            Received::Accepted | Received::Known => {
                info!(room.id = %self.room_id, state.events = count, "joined a room of other servers");
                Ok(())
            }
            Received::SoftFailed(why) | Received::Rejected(why) => {
                Err(RemoteError::Invalid(format!("the join is not allowed: {why}")).into())
            }
            Received::Unsigned(server) => {
                Err(RemoteError::Invalid(format!("the join is not signed by {}", server.name)).into())
            }
            Received::Missing(_) => {
                Err(RemoteError::Invalid("events that the join needs are missing".to_owned()).into())
            }
        }
    }
}
