//! What a user and administrators see of the user's sessions.

use myelin_storage::{accounts, devices};
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::admin::get_user_info::v3::{ConnectionInfo, DeviceInfo, Request, Response, SessionInfo},
};

use crate::{app::App, error::MatrixError, http::endpoint::Ruma};

/// `GET /_matrix/client/v3/admin/whois/{userId}`
///
/// A device is one session here, and of its connections the last is known.
pub async fn get_user_info(app: App, req: Ruma<Request>) -> Result<Response, MatrixError> {
    if req.user().id != req.user_id {
        req.user().require_admin()?;
    }
    let db = app.storage.get().await?;
    let account = accounts::find(&db, &req.user_id).await?;
    let account = account.ok_or_else(|| MatrixError::not_found("there is no such user here"))?;
    let mut devices = devices::list(&db, &[account.nid]).await?;
    app.memory.sessions.freshen(&mut devices);
    let mut response = Response::new();
    for device in devices {
        let connection = connection(device.last_seen_ts, device.last_seen_ip, device.last_seen_agent);
        let mut session = SessionInfo::new();
        session.connections.extend(connection);
        let mut info = DeviceInfo::new();
        info.sessions.push(session);
        response.devices.insert(device.device_id.to_string(), info);
    }
    response.user_id = Some(account.user_id);
    Ok(response)
}

/// `None`: the device was never seen.
fn connection(ts: Option<i64>, ip: Option<String>, agent: Option<String>) -> Option<ConnectionInfo> {
    let ts = ts.and_then(|ts| UInt::try_from(ts).ok())?;
    let mut connection = ConnectionInfo::new();
    (connection.ip, connection.user_agent) = (ip, agent);
    connection.last_seen = Some(MilliSecondsSinceUnixEpoch(ts));
    Some(connection)
}
