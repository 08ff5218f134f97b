//! Keys for end-to-end encryption, across users, devices and servers.
//!
//! - [`upload`]: what a device publishes. [`cross_signing`]: what its user publishes. [`signatures`]: who vouches for whom.
//! - [`query`]: whose keys are what. [`claim`]: keys that are given to one asker each.
//!
//! - [`remote`]: keys of other servers' users. [`lists`]: how those are kept current. [`announce`]: how other servers are
//!   told of ours; [`edus`]: what they tell us.
//!
//! Whatever changes what others see of a user's keys goes through [`change`], which tells them.

pub mod announce;
pub mod claim;
pub mod cross_signing;
pub mod edus;
pub mod lists;
pub mod query;
pub mod remote;
pub mod signatures;
pub mod upload;

use myelin_core::{nid::UserNid, signed_key::KeyError};
use myelin_storage::{
    commit::{Announcement, Audience, Change, DeviceListChange, KeyWrite},
    encryption::device_lists,
};
use ruma::OwnedDeviceId;

use crate::{app::App, error::MatrixError};

/// Makes a change of a local user's devices or keys durable. Everybody who shares a room with the user is told, and so
/// are other servers, as far as there is something to announce.
pub async fn change(
    app: &App,
    user: UserNid,
    writes: Vec<KeyWrite>,
    announcements: Vec<Announcement>,
) -> Result<(), MatrixError> {
    // Before the rooms are read: what is committed meanwhile may be in them or not.
    let as_of = app.actors.syncers.now().position;
    let rooms = device_lists::rooms_of(&app.storage.get().await?, user).await?;
    let is_announced = !announcements.is_empty();
    let change = DeviceListChange { user, audience: Audience::Rooms { rooms, as_of }, writes, announcements };
    app.actors.journal.write(Change::DeviceList(change)).await?;
    if is_announced {
        app.memory.device_lists.announcements.notify_one();
    }
    Ok(())
}

/// Tells everybody concerned that what is known of a device has changed: its name, or that it exists.
pub async fn announce_device(app: &App, user: UserNid, device_id: OwnedDeviceId) -> Result<(), MatrixError> {
    change(app, user, Vec::new(), vec![Announcement::Device(device_id)]).await
}

/// What a client is told of a key that is not taken.
fn refused(error: &KeyError) -> MatrixError {
    match error {
        KeyError::Malformed(why) => MatrixError::invalid_param(*why),
        KeyError::Signature(why) => MatrixError::invalid_signature(*why),
    }
}
