//! The server-server API: the table of its endpoints.
//!
//! Each file below has the address that ruma gives its endpoints. `req.origin()` is the server that asks.

pub mod authorization;
pub mod backfill;
pub mod device;
pub mod directory;
pub mod discovery;
pub mod event;
pub mod keys;
pub mod media;
pub mod membership;
pub mod openid;
pub mod path;
pub mod pdus;
pub mod query;
pub mod space;
pub mod state;
pub mod thirdparty;
pub mod transactions;

use http::Method;

use super::{rate_limit::RateClass, routes::Routes};

/// All routes of the server-server API.
pub fn routes(routes: &mut Routes) {
    routes.add(discovery::get_server_version);
    routes.add(discovery::get_server_keys).also_at("/_matrix/key/v2/server/{key_id}");
    routes.add(discovery::get_remote_server_keys);
    routes.plain(
        Method::GET,
        "/_matrix/key/v2/query/{server_name}/{key_id}",
        discovery::get_remote_server_key,
    );
    routes.add(discovery::get_remote_server_keys_batch);
    routes.add(transactions::send_transaction_message);
    rooms(routes);
    membership(routes);
    queries(routes);
    encryption(routes);
    routes.add(media::get_content).rate(RateClass::Media);
    routes.add(media::get_content_thumbnail).rate(RateClass::Media);
}

/// Rooms' events and state.
fn rooms(routes: &mut Routes) {
    routes.add(event::get_event);
    routes.add(event::get_room_state);
    routes.add(event::get_room_state_ids);
    routes.add(event::get_event_by_timestamp);
    routes.plain(
        Method::POST,
        "/_matrix/federation/v1/get_missing_events/{room_id}",
        event::get_missing_events,
    );
    routes.add(authorization::get_event_authorization);
    routes.add(backfill::get_backfill);
}

/// Coming and going.
fn membership(routes: &mut Routes) {
    const SEND_JOIN: &str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
    const SEND_LEAVE: &str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";
    const SEND_LEAVE_V2: &str = "/_matrix/federation/v2/send_leave/{room_id}/{event_id}";
    const INVITE: &str = "/_matrix/federation/v1/invite/{room_id}/{event_id}";
    const INVITE_V2: &str = "/_matrix/federation/v2/invite/{room_id}/{event_id}";
    routes.add(membership::prepare_join_event);
    routes.plain(Method::PUT, SEND_JOIN, membership::create_join_event_v1);
    routes.add(membership::create_join_event);
    routes.add(membership::prepare_leave_event);
    routes.plain(Method::PUT, SEND_LEAVE, membership::create_leave_event_v1);
    routes.plain(Method::PUT, SEND_LEAVE_V2, membership::create_leave_event);
    routes.add(membership::prepare_knock_event);
    routes.add(membership::create_knock_event);
    routes.plain(Method::PUT, INVITE, membership::create_invite_v1);
    routes.plain(Method::PUT, INVITE_V2, membership::create_invite);
    routes.add(thirdparty::exchange_invite);
    // Nobody signs these.
    routes.add(thirdparty::bind_callback).rate(RateClass::Usual);
    routes.add(thirdparty::bind_callback_posted).rate(RateClass::Usual);
}

/// Finding rooms, and what is known of users.
fn queries(routes: &mut Routes) {
    routes.add(directory::get_public_rooms);
    routes.add(directory::get_public_rooms_filtered);
    routes.add(space::get_hierarchy);
    routes.add(query::get_room_information);
    routes.add(query::get_profile_information);
    routes.add(query::get_custom_information);
    routes.plain(Method::GET, "/_matrix/federation/v1/openid/userinfo", openid::get_openid_userinfo);
}

/// Devices of our users and their keys.
fn encryption(routes: &mut Routes) {
    routes.add(device::get_devices);
    routes.add(keys::get_keys);
    routes.add(keys::claim_keys);
}
