//! The answer to `/sync`: what is new for a user, in the form that clients want it.
//!
//! In reading order:
//!
//! - [`token`]: what `since`, `next_batch` and `prev_batch` mean.
//! - [`rooms`]: which rooms the answer tells about, and from where to where.
//! - [`timeline`], [`state`], [`members`], [`summary`]: the parts of a room.
//! - [`ephemeral`], [`account_data`], [`presence`], [`invite`]: the rest.
//! - [`devices`]: messages for the device that asks, and its keys. [`device_lists`]: whose devices have changed.
//! - [`counts`]: how much is unread.
//! - [`preferences`]: what the user's own account data says about all of it. [`filters`]: what the client does.
//! - [`answer`]: the whole, as JSON. `unreadable`: what is left out of it.
//!
//! Every part works on all rooms at once, so that an answer costs a number of queries that does not grow with them:
//! none for an answer without news, and mostly none for new events in rooms that are in memory.
//!
//! Deliberately absent: waiting. The user's `SyncActor` knows whether something is new; here its news are asked for,
//! and asked again when nothing in them is for this client.

pub mod account_data;
pub mod answer;
pub mod counts;
pub mod device_lists;
pub mod devices;
pub mod ephemeral;
pub mod filters;
pub mod invite;
pub mod members;
pub mod preferences;
pub mod presence;
pub mod rooms;
pub mod state;
pub mod summary;
pub mod timeline;
pub mod token;
mod unreadable;

use std::{sync::Arc, time::Duration};

use myelin_actors::sync::messages::{News, SyncPoint, SyncUser};
use myelin_core::position::Position;
use myelin_storage::{error::StorageError, events::StoredEvent};
use ruma::{OwnedDeviceId, api::client::filter::FilterDefinition};

use self::{
    answer::{Answer, RoomPart, StateField, Timeline},
    preferences::Preferences,
    rooms::{Plan, Room},
};
use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Reader},
    filter::EventFields,
    visibility::Seen,
};

/// So much later a device hears of what it has sent itself: the answer to its request, which says the event's id, is to
/// come first. Nobody has promised that, but clients count on it: replies in threads hang in matrix-js-sdk otherwise.
const ECHO: Duration = Duration::from_millis(20);
/// An event that is older than this was not sent just now.
const JUST_NOW_MS: u64 = 1_000;

/// What is remembered between one answer and the next. All of it can be lost: answers then say more than they must,
/// or cost a query more.
#[derive(Debug, Default)]
pub struct SyncCaches {
    /// Which members each device has been told of.
    pub lazy: members::LazySent,
    /// How much is unread in each room, for each user who asked.
    pub counts: counts::CountCache,
    /// Events that were counted for someone.
    pub considered: counts::ConsideredCache,
    /// What users' account data says about sync.
    pub preferences: preferences::PreferenceCache,
    /// Filters that clients name.
    pub filters: filters::FilterCache,
    /// Which messages devices were sent.
    pub sent_messages: devices::SentMessages,
    /// What is left of devices' keys.
    pub key_counts: devices::KeyCountCache,
}

/// Who wants to know what.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The user.
    pub user: SyncUser,
    /// Their device.
    pub device: Option<OwnedDeviceId>,
    /// What the client knows already.
    pub since: Option<SyncPoint>,
    /// Up to where the device has got the messages for it; `None`: it asks for no messages.
    pub messages_since: Option<Position>,
    /// What it wants to know of the rest.
    pub filter: Arc<FilterDefinition>,
    /// It wants the state of all rooms, whether it changed or not.
    pub full_state: bool,
    /// As of when it wants state.
    pub state_field: StateField,
    /// How long it waits for something new.
    pub timeout: Duration,
}

/// One attempt to build the answer.
pub(crate) struct Context<'a> {
    pub(crate) app: &'a App,
    pub(crate) ask: &'a Ask,
    pub(crate) news: &'a News,
    /// What the client knows; later than what it asked for when it has waited.
    pub(crate) since: Option<SyncPoint>,
    pub(crate) preferences: Arc<Preferences>,
    pub(crate) fields: Option<EventFields>,
}

/// What is new for the client. With something new, at once; else when it comes, or with nothing after the timeout or
/// when the server shuts down.
pub async fn sync(app: &App, ask: &Ask) -> Result<Answer, MatrixError> {
    let handle = app.actors.syncers.user(ask.user.nid).for_device(ask.device.clone());
    match ask.since {
        None => app.memory.sync.lazy.forget(ask.user.nid, ask.device.as_deref()),
        Some(since) => app.memory.sync.lazy.go_on(ask.user.nid, ask.device.as_deref(), since),
    }
    // Boxed, as all that is done before or after waiting, so that one who waits does not hold the space for it.
    Box::pin(devices::acknowledge(app, ask)).await?;
    let waits = !ask.full_state && !ask.timeout.is_zero() && !ask.has_more_messages();
    let Some(mut since) = ask.since.filter(|_| waits) else {
        let known = if ask.full_state { None } else { ask.since };
        let news = Box::pin(handle.news(known)).await.map_err(unread)?;
        return Box::pin(build(app, ask, ask.since, &news)).await;
    };
    let timeout = tokio::time::sleep(ask.timeout);
    tokio::pin!(timeout);
    loop {
        let news = tokio::select! {
            news = handle.wait(since) => news.map_err(unread)?,
            () = &mut timeout => break,
            () = app.process.shutdown.begun() => break,
        };
        since = match Box::pin(tell(app, ask, since, news)).await? {
            Told::Something(answer) => return Ok(*answer),
            Told::Nothing { upto } => upto,
        };
    }
    let news = Box::pin(handle.news(Some(since))).await.map_err(unread)?;
    Box::pin(build(app, ask, Some(since), &news)).await
}

/// What news are for the client that asks.
enum Told {
    Something(Box<Answer>),
    Nothing { upto: SyncPoint },
}

/// Builds the answer of one who has waited. Of what is new for the user, nothing may be for this client.
async fn tell(app: &App, ask: &Ask, since: SyncPoint, news: News) -> Result<Told, MatrixError> {
    let answer = build(app, ask, Some(since), &news).await?;
    if answer.is_empty() {
        return Ok(Told::Nothing { upto: answer.upto });
    }
    if answer.has_echo {
        tokio::time::sleep(ECHO).await;
    }
    Ok(Told::Something(answer.into()))
}

/// The user's rooms could not be read.
pub(crate) fn unread(error: Arc<StorageError>) -> MatrixError {
    match *error {
        StorageError::Unavailable(_) => MatrixError::Unavailable(error.into()),
        _ => MatrixError::internal(error),
    }
}

async fn build(app: &App, ask: &Ask, since: Option<SyncPoint>, news: &News) -> Result<Answer, MatrixError> {
    let device = devices::part(app, ask, since, news).await?;
    let mut answer = Answer { upto: news.upto, state_field: ask.state_field, device, ..Answer::default() };
    if news.is_empty() {
        return Ok(answer);
    }
    if let Some(since) = since {
        answer.device_lists = device_lists::since(app, ask.user.nid, since.position, news).await?;
    }
    let context = Context {
        app,
        ask,
        news,
        since,
        preferences: preferences::load(app, ask.user.nid, since, news).await?,
        fields: ask.filter.event_fields.as_deref().map(EventFields::parse),
    };
    let plan = rooms::plan(&context).await?;
    match fill(&context, &plan, &mut answer).await {
        Err(error) if error.is_corruption() => {
            let readable = Box::pin(unreadable::leave_out(&context, plan)).await?;
            fill(&context, &readable, &mut answer).await?;
        }
        filled => filled?,
    }
    answer.join.extend(ephemeral::lost_typing(&context).await?);
    Ok(answer)
}

/// Tells of the rooms of the plan, and of what is in no room.
async fn fill(context: &Context<'_>, plan: &Plan, answer: &mut Answer) -> Result<(), MatrixError> {
    let pages = timeline::pages(context, &plan.rooms).await?;
    answer.has_echo = pages.iter().flat_map(|page| &page.shown).any(|seen| context.is_echo(&seen.event));
    let states = state::states(context, &plan.rooms, &pages).await?;
    let stored = account_data::load(context, &plan.rooms).await?;
    answer.account_data = stored.global;
    answer.presence = presence::events(context, &plan.rooms, &pages).await?;
    (answer.invite, answer.knock) = invite::stripped(context, &plan.outside).await?;
    let ephemeral = ephemeral::events(context, &plan.rooms).await?;
    let parts = parts(context, plan, pages, states, stored.rooms, ephemeral).await?;
    let keeps = |room: &Room, part: &RoomPart| room.must_be_told(context) || !part.is_empty();
    for (room, part) in plan.rooms.iter().zip(parts).filter(|(room, part)| keeps(room, part)) {
        let section = if room.left.is_some() { &mut answer.leave } else { &mut answer.join };
        section.push((room.view.room_id.clone(), part));
    }
    Ok(())
}

/// Puts each room's parts together, in the order of the plan.
async fn parts(
    context: &Context<'_>,
    plan: &Plan,
    pages: Vec<timeline::Page>,
    states: Vec<state::RoomState>,
    account_data: Vec<Vec<String>>,
    ephemeral: Vec<Vec<String>>,
) -> Result<Vec<RoomPart>, MatrixError> {
    let mut summaries = summary::summaries(context, &plan.rooms, &states).await?;
    let timelines = format_timelines(context, &pages).await?;
    let mut parts: Vec<RoomPart> = Vec::with_capacity(plan.rooms.len());
    for (((page, events), state), (account_data, ephemeral)) in
        pages.into_iter().zip(timelines).zip(states).zip(account_data.into_iter().zip(ephemeral))
    {
        parts.push(RoomPart {
            timeline: Timeline { events, limited: page.limited, prev_batch: page.prev_batch },
            state: state.events.iter().map(|event| context.format_state(event)).collect(),
            account_data,
            ephemeral,
            summary: summaries.next().flatten(),
            ..RoomPart::default()
        });
    }
    counts::fill(context, &plan.rooms, &mut parts).await?;
    Ok(parts)
}

/// The events of all timelines in the form that the client wants, with as many queries as one timeline takes.
async fn format_timelines(
    context: &Context<'_>,
    pages: &[timeline::Page],
) -> Result<Vec<Vec<String>>, MatrixError> {
    if context.wants_federation_format() {
        let format = |seen: &Seen| context.prune(event_format::federation_event(&seen.event.pdu));
        return Ok(pages.iter().map(|page| page.shown.iter().map(format).collect()).collect());
    }
    // New events seldom have children already; those after a gap may.
    let with_aggregations = pages.iter().any(|page| page.limited);
    let all: Vec<Seen> = pages.iter().flat_map(|page| page.shown.iter().cloned()).collect();
    let reader = Reader {
        user: context.ask.user.nid,
        device: context.ask.device.as_deref(),
        ignored: Some(&context.preferences.ignored),
    };
    let formatted = event_format::client_events(context.app, reader, &all, with_aggregations).await?;
    let mut formatted = formatted.into_iter().map(|event| context.prune(event));
    Ok(pages.iter().map(|page| formatted.by_ref().take(page.shown.len()).collect()).collect())
}

impl Context<'_> {
    /// The device that asks has sent the event just now.
    fn is_echo(&self, event: &StoredEvent) -> bool {
        let (user, device) = (self.ask.user.nid, self.ask.device.as_ref());
        let sent_ms = u64::from(event.pdu.origin_server_ts().get());
        event.sender == user
            && self.app.process.clock.now_ms().saturating_sub(sent_ms) < JUST_NOW_MS
            && self
                .app
                .actors
                .syncers
                .transaction_of(event.nid)
                .is_some_and(|sent| sent.0 == user && device.is_some_and(|device| sent.1 == *device))
    }

    fn wants_federation_format(&self) -> bool {
        self.ask.filter.event_format == ruma::api::client::filter::EventFormat::Federation
    }

    fn prune(&self, event: String) -> String {
        match &self.fields {
            Some(fields) => fields.prune(event),
            None => event,
        }
    }

    fn format_state(&self, event: &myelin_storage::events::StoredEvent) -> String {
        self.prune(if self.wants_federation_format() {
            event_format::federation_event(&event.pdu)
        } else {
            event_format::client_event(
                event,
                &event_format::Extras::default(),
                self.app.process.clock.now_ms(),
            )
        })
    }
}
