//! The client-server API: the table of its routes.
//!
//! One line an endpoint, in the order of the specification. How to add one: see [`http`](super).

pub mod account;
pub mod account_data;
pub mod admin;
pub mod alias;
pub mod backup;
pub mod context;
pub mod device;
pub mod directory;
pub mod discovery;
pub mod events;
pub mod filter;
pub mod keys;
pub mod knock;
pub mod media;
pub mod membership;
pub mod message;
pub mod peeking;
pub mod presence;
pub mod profile;
pub mod push;
pub mod pusher;
pub mod read_marker;
pub mod receipt;
pub mod redact;
pub mod relations;
pub mod room;
pub mod session;
pub mod space;
pub mod state;
pub mod sync;
pub mod tag;
pub mod threads;
pub mod to_device;
pub mod typing;
pub mod uiaa;
pub mod user_directory;

use http::Method;

use super::{rate_limit::RateClass, routes::Routes};

/// The routes below `/_matrix/client`.
pub fn routes(routes: &mut Routes) {
    accounts(routes);
    rooms(routes);
    syncing(routes);
    push_rules(routes);
    encryption(routes);
    media(routes);
    administration(routes);
}

/// What administrators see of other servers and of users.
fn administration(routes: &mut Routes) {
    let destinations = "/_synapse/admin/v1/federation/destinations";
    let one = format!("{destinations}/{{destination}}");
    routes.plain(Method::GET, destinations, admin::list_destinations);
    routes.plain(Method::GET, &one, admin::get_destination);
    routes.plain(Method::POST, &format!("{one}/reset_connection"), admin::reset_connection);
    routes.plain(Method::GET, "/_myelin/admin/v1/joins", admin::list_joins);
    routes.add(admin::user::get_user_info);
}

/// Accounts, sessions and devices, and what users say about themselves.
fn accounts(routes: &mut Routes) {
    routes.plain(Method::GET, "/_matrix/client/versions", discovery::get_supported_versions);
    routes.add(discovery::get_capabilities).guests();
    routes.add(session::get_login_types);
    routes.add(session::login).rate(RateClass::Login);
    routes.add(session::login_fallback).also_at("/_matrix/static/client/login");
    routes.add(session::get_login_token).rate(RateClass::Login);
    routes.add(session::refresh_token);
    routes.add(session::logout).guests().locked();
    routes.add(session::logout_all).guests().locked();
    routes.add(account::register::register).rate(RateClass::Register);
    routes.add(account::get_username_availability);
    routes.add(account::check_registration_token_validity);
    routes.plain(Method::GET, "/_synapse/admin/v1/register", account::shared_secret::get_nonce);
    routes.plain(Method::POST, "/_synapse/admin/v1/register", account::shared_secret::register);
    routes.add(account::whoami).guests();
    routes.add(account::change_password);
    routes.add(account::deactivate);
    routes.add(account::get_3pids);
    routes.add(account::request_openid_token);
    routes.add(uiaa::get_uiaa_fallback_page);
    routes
        .plain(
            Method::POST,
            "/_matrix/client/v3/auth/{auth_type}/fallback/web",
            uiaa::post_uiaa_fallback_page,
        )
        .also_at("/_matrix/client/r0/auth/{auth_type}/fallback/web")
        .bytes()
        .rate(RateClass::Login);
    routes.add(device::get_devices).guests();
    routes.add(device::get_device).guests();
    routes.add(device::update_device).guests();
    routes.add(device::delete_device);
    routes.add(device::delete_devices);
    routes.add(profile::get_profile);
    routes.add(profile::get_profile_field);
    routes
        .plain(Method::PUT, "/_matrix/client/v3/profile/{user_id}/{field}", profile::set_profile_field)
        .also_at("/_matrix/client/r0/profile/{user_id}/{field}")
        .also_at("/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}")
        .guests()
        .rate(RateClass::Usual);
    routes.add(profile::delete_profile_field);
    routes.add(filter::create_filter).guests();
    routes.add(filter::get_filter).guests();
    routes.add(user_directory::search_users);
}

/// Rooms: making, entering and leaving, reading and writing, and finding them.
fn rooms(routes: &mut Routes) {
    routes.add(room::create_room).rate(RateClass::Message);
    routes.add(room::upgrade_room).rate(RateClass::Message);
    routes.add(room::aliases);
    routes.add(room::get_room_event).guests();
    routes.add(room::get_event_by_timestamp);
    routes.add(membership::join_room_by_id).guests();
    routes.add(membership::join_room_by_id_or_alias).guests();
    routes.add(membership::leave_room).guests();
    routes.add(membership::forget_room).guests();
    routes.add(membership::invite_user);
    routes.add(membership::kick_user);
    routes.add(membership::ban_user);
    routes.add(membership::unban_user);
    routes.add(membership::get_member_events).guests();
    routes.add(membership::joined_members);
    routes.add(membership::joined_rooms).guests();
    routes.add(knock::knock_room);
    routes.add(state::get_state_events).guests();
    routes
        .add(state::get_state_event_for_key)
        .guests()
        .without_last_argument_at("/_matrix/client/r0/rooms/{room_id}/state/{event_type}")
        .without_last_argument_at("/_matrix/client/r0/rooms/{room_id}/state/{event_type}/")
        .without_last_argument_at("/_matrix/client/v3/rooms/{room_id}/state/{event_type}")
        .without_last_argument_at("/_matrix/client/v3/rooms/{room_id}/state/{event_type}/");
    routes
        .add(state::send_state_event)
        .guests()
        .rate(RateClass::Message)
        .without_last_argument_at("/_matrix/client/r0/rooms/{room_id}/state/{event_type}")
        .without_last_argument_at("/_matrix/client/r0/rooms/{room_id}/state/{event_type}/")
        .without_last_argument_at("/_matrix/client/v3/rooms/{room_id}/state/{event_type}")
        .without_last_argument_at("/_matrix/client/v3/rooms/{room_id}/state/{event_type}/");
    routes.add(message::send_message_event).guests().rate(RateClass::Message);
    routes
        .plain(
            Method::POST,
            "/_matrix/client/v3/rooms/{room_id}/send/{event_type}",
            message::send_without_transaction,
        )
        .also_at("/_matrix/client/r0/rooms/{room_id}/send/{event_type}")
        .guests()
        .rate(RateClass::Message);
    routes.add(message::get_message_events).guests();
    routes.add(redact::redact_event).guests().rate(RateClass::Message);
    routes
        .plain(
            Method::POST,
            "/_matrix/client/v3/rooms/{room_id}/redact/{event_id}",
            redact::redact_without_transaction,
        )
        .also_at("/_matrix/client/r0/rooms/{room_id}/redact/{event_id}")
        .guests()
        .rate(RateClass::Message);
    routes.add(context::get_context).guests();
    routes.add(relations::get_relating_events);
    routes.add(relations::get_relating_events_with_rel_type);
    routes.add(relations::get_relating_events_with_rel_type_and_event_type);
    routes.add(threads::get_threads);
    routes.add(alias::get_alias);
    routes.add(alias::create_alias);
    routes.add(alias::delete_alias);
    routes.add(space::get_hierarchy);
    routes.add(room::get_summary).guests();
    routes.add(directory::get_public_rooms).guests();
    routes.add(directory::get_public_rooms_filtered).guests();
    routes.add(directory::get_room_visibility);
    routes.add(directory::set_room_visibility);
}

/// What is new, and what users' clients share with each other and with others about rooms.
fn syncing(routes: &mut Routes) {
    routes.add(sync::sync_events).guests().waits();
    routes
        .plain(Method::GET, "/_matrix/client/v3/events", events::listen_to_new_events)
        .guests()
        .waits()
        .also_at("/_matrix/client/r0/events");
    routes
        .plain(Method::GET, "/_matrix/client/v3/initialSync", events::initial_sync)
        .also_at("/_matrix/client/r0/initialSync");
    routes
        .plain(Method::GET, "/_matrix/client/v3/rooms/{room_id}/initialSync", peeking::get_current_state)
        .guests()
        .also_at("/_matrix/client/r0/rooms/{room_id}/initialSync");
    routes.add(receipt::create_receipt).rate(RateClass::Signal);
    routes.add(read_marker::set_read_marker).rate(RateClass::Signal);
    routes.add(typing::create_typing_event).rate(RateClass::Signal);
    routes.add(presence::get_presence);
    routes.add(presence::set_presence).rate(RateClass::Signal);
    routes.add(account_data::get_global_account_data);
    routes.add(account_data::set_global_account_data);
    routes.add(account_data::get_room_account_data);
    routes.add(account_data::set_room_account_data);
    routes.add(tag::get_tags);
    routes.add(tag::create_tag);
    routes.add(tag::delete_tag);
}

/// Keys for end-to-end encryption, and messages from device to device.
fn encryption(routes: &mut Routes) {
    routes.add(keys::upload_keys).guests().rate(RateClass::Signal);
    routes.add(keys::get_keys).guests().rate(RateClass::Signal);
    routes.add(keys::claim_keys).guests().rate(RateClass::Signal);
    routes.add(keys::get_key_changes);
    routes.add(keys::upload_signing_keys);
    routes.add(keys::upload_signatures);
    routes.add(to_device::send_event_to_device).guests().rate(RateClass::Signal);
    routes.add(backup::create_backup_version);
    routes.add(backup::get_latest_backup_info);
    routes.add(backup::get_backup_info);
    routes.add(backup::update_backup_version);
    routes.add(backup::delete_backup_version);
    routes.add(backup::add_backup_keys).rate(RateClass::Signal);
    routes.add(backup::add_backup_keys_for_room).rate(RateClass::Signal);
    routes.add(backup::add_backup_keys_for_session).rate(RateClass::Signal);
    routes.add(backup::get_backup_keys);
    routes.add(backup::get_backup_keys_for_room);
    routes.add(backup::get_backup_keys_for_session);
    routes.add(backup::delete_backup_keys);
    routes.add(backup::delete_backup_keys_for_room);
    routes.add(backup::delete_backup_keys_for_session);
}

/// What notifies a user.
fn push_rules(routes: &mut Routes) {
    routes.add(pusher::get_pushers);
    routes.add(pusher::set_pusher);
    routes.add(push::notifications::get_notifications);
    routes.add(push::get_pushrules_all);
    routes.add(push::get_pushrules_global_scope);
    routes.add(push::get_pushrule);
    routes.add(push::set_pushrule);
    routes.add(push::delete_pushrule);
    routes.add(push::get_pushrule_actions);
    routes.add(push::set_pushrule_actions);
    routes.add(push::get_pushrule_enabled);
    routes.add(push::set_pushrule_enabled);
    routes.plain(Method::GET, "/_matrix/client/v3/pushrules/global/{kind}/", push::get_pushrules_of_kind);
    routes.plain(Method::PUT, "/_matrix/client/v3/pushrules/", push::no_rule);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        routes
            .plain(method, "/_matrix/client/v3/pushrules/{scope}", push::no_rule)
            .also_at("/_matrix/client/v3/pushrules/{scope}/")
            .also_at("/_matrix/client/v3/pushrules/{scope}/{kind}")
            .also_at("/_matrix/client/v3/pushrules/{scope}/{kind}/")
            .also_at("/_matrix/client/v3/pushrules/{scope}/{kind}/{rule_id}")
            .also_at("/_matrix/client/v3/pushrules/{scope}/{kind}/{rule_id}/{attribute}");
    }
}

/// Files. Downloads are older than the rule that they need a token, and are still found where they were.
fn media(routes: &mut Routes) {
    const UPLOAD: &str = "/_matrix/media/v3/upload";
    const UPLOAD_TO: &str = "/_matrix/media/v3/upload/{server_name}/{media_id}";
    const CLASS: RateClass = RateClass::Media;
    routes
        .streamed(Method::POST, UPLOAD, media::create_content)
        .also_at("/_matrix/media/r0/upload")
        .also_at("/_matrix/media/v1/upload")
        .rate(CLASS);
    routes.add(media::create_mxc_uri).rate(CLASS);
    routes.streamed(Method::PUT, UPLOAD_TO, media::create_content_async).rate(CLASS);
    routes.add(media::get_media_config_authed).guests();
    routes.add(media::get_media_config).guests().also_at("/_matrix/media/v1/config");
    routes.add(media::get_content_authed).guests().rate(CLASS);
    routes.add(media::get_content_as_filename_authed).guests().rate(CLASS);
    routes.add(media::get_content).also_at("/_matrix/media/v1/download/{server_name}/{media_id}").rate(CLASS);
    routes
        .add(media::get_content_as_filename)
        .also_at("/_matrix/media/v1/download/{server_name}/{media_id}/{file_name}")
        .rate(CLASS);
    routes.add(media::thumbnail::get_content_thumbnail_authed).guests().rate(CLASS);
    routes
        .add(media::thumbnail::get_content_thumbnail)
        .also_at("/_matrix/media/v1/thumbnail/{server_name}/{media_id}")
        .rate(CLASS);
    quarantine(routes);
}

/// What administrators take out of sight.
fn quarantine(routes: &mut Routes) {
    const ADD: &str = "/_synapse/admin/v1/media/quarantine/{server_name}/{media_id}";
    const REMOVE: &str = "/_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}";
    const ROOM: &str = "/_synapse/admin/v1/room/{room_id}/media/quarantine";
    const USER: &str = "/_synapse/admin/v1/user/{user_id}/media/quarantine";
    routes.plain(Method::POST, ADD, media::quarantine::quarantine_media);
    routes.plain(Method::POST, REMOVE, media::quarantine::unquarantine_media);
    routes.plain(Method::POST, USER, media::quarantine::quarantine_user);
    routes
        .plain(Method::POST, ROOM, media::quarantine::quarantine_room)
        .also_at("/_synapse/admin/v1/quarantine_media/{room_id}");
}
