//! `/sync`: parsing what is asked for. What is new is found and put together in [`crate::sync`].

use std::{sync::Arc, time::Duration};

use myelin_actors::{presence::GONE_MS, sync::messages::SyncUser};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::members;
use ruma::presence::PresenceState;

use crate::{
    app::App,
    error::MatrixError,
    http::{auth::User, endpoint::Ruma, response::JsonText},
    sync::{
        self, Ask,
        answer::StateField,
        filters,
        token::{parse_messages_since, parse_sync_token},
    },
};

/// The longest that a client may wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// The request as ruma has it, and the name that `use_state_after` had before it was stable.
pub mod sync_events {
    use ruma::{
        api::{
            IncomingRequest, auth_scheme::AccessToken, client::sync::sync_events::v3,
            error::DeserializationError,
        },
        metadata,
    };

    metadata! {
        method: GET,
        rate_limited: false,
        authentication: AccessToken,
        history: {
            1.0 => "/_matrix/client/r0/sync",
            1.1 => "/_matrix/client/v3/sync",
        }
    }

    /// What a client wants to know.
    #[derive(Clone, Debug)]
    pub struct Request {
        /// The request as ruma has it, but for its filter. Boxed, because who waits holds the space for it.
        pub stable: Box<v3::Request>,
        /// The filter as it stands in the address: clients send the same one again and again, and most of the work of
        /// reading it can be spared.
        pub filter: Option<String>,
        /// `org.matrix.msc4222.use_state_after`
        pub unstable_use_state_after: bool,
    }

    impl IncomingRequest for Request {
        type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
        type OutgoingResponse = v3::Response;

        fn try_from_http_request_inner(
            request: http::Request<&[u8]>,
            path_args: &[&str],
        ) -> Result<Self, DeserializationError> {
            let (mut head, body) = request.into_parts();
            let parameters = head.uri.query().unwrap_or_default().split('&');
            let (filters, others): (Vec<&str>, Vec<&str>) =
                parameters.partition(|parameter| parameter.starts_with("filter="));
            let filter = filters.first().and_then(|filter| filter.strip_prefix("filter=")).map(str::to_owned);
            let unstable_use_state_after = others.contains(&"org.matrix.msc4222.use_state_after=true");
            let address = format!("{}?{}", head.uri.path(), others.join("&"));
            head.uri = address.parse().unwrap_or_default();
            let request = http::Request::from_parts(head, body);
            let stable = Box::new(v3::Request::try_from_http_request_inner(request, path_args)?);
            Ok(Self { stable, filter, unstable_use_state_after })
        }
    }
}

/// `GET /_matrix/client/v3/sync`
///
/// What is new since the last answer, at once or when something is.
pub async fn sync_events(app: App, req: Ruma<sync_events::Request>) -> Result<JsonText, MatrixError> {
    // What the request holds is let go before anyone waits.
    let ask = Box::pin(prepare(&app, req)).await?;
    Ok(sync::sync(&app, &ask).await?.to_json().into())
}

/// What is asked, and that the one who asks is here.
async fn prepare(app: &App, req: Ruma<sync_events::Request>) -> Result<Ask, MatrixError> {
    let (user, request) = (req.user(), &req.stable);
    let since = request.since.as_deref().filter(|token| !token.is_empty());
    let unknown = || MatrixError::invalid_param("since is no token of this server");
    let messages_since = since.map_or(Some(Position::START), parse_messages_since).ok_or_else(unknown)?;
    let since = since.map(|token| parse_sync_token(token).ok_or_else(unknown)).transpose()?;
    let filter = match &req.filter {
        Some(filter) => filters::named_or_inline(app, user.nid, filter).await?,
        None => Arc::default(),
    };
    super::presence::check_state(&request.set_presence)?;
    let timeout = request.timeout.unwrap_or_default().min(MAX_TIMEOUT);
    note_presence(app, user, &request.set_presence, timeout).await?;
    Ok(Ask {
        user: SyncUser { nid: user.nid, id: user.id.clone() },
        device: Some(user.device_id.clone()),
        since,
        messages_since: Some(messages_since),
        filter,
        full_state: request.full_state,
        state_field: match (request.use_state_after, req.unstable_use_state_after) {
            (true, _) => StateField::After,
            (false, true) => StateField::UnstableAfter,
            (false, false) => StateField::Before,
        },
        timeout,
    })
}

/// A user whose client asks is there until it has its answer and a little longer, unless it says that it does not
/// count.
pub(super) async fn note_presence(
    app: &App,
    user: &User,
    presence: &PresenceState,
    timeout: Duration,
) -> Result<(), MatrixError> {
    if *presence == PresenceState::Offline {
        return Ok(());
    }
    // Who is to be told needs to be known only when there is something to tell.
    let shows = app.actors.presences.would_show(user.nid, presence);
    let rooms = if shows { joined_rooms(app, user.nid).await? } else { Vec::new() };
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or_default();
    let until_ms = app.process.clock.now_ms().saturating_add(timeout_ms).saturating_add(GONE_MS);
    app.actors.presences.stay(user.nid, &rooms, presence.clone(), until_ms);
    Ok(())
}

/// The rooms that the user is in.
pub(super) async fn joined_rooms(app: &App, user: UserNid) -> Result<Vec<RoomNid>, MatrixError> {
    let rooms = members::rooms_of(&app.storage.get().await?, user).await?.rooms;
    let joined = rooms.iter().filter(|room| room.member.membership == Membership::Join);
    Ok(joined.map(|room| room.member.room).collect())
}
