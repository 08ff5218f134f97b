//! Who is logged in: access tokens looked up in the database, and remembered for a short while.
//!
//! Whoever ends a session, or changes what its user may do, must say so here after the database has it: [`forget`],
//! [`forget_device`] or [`forget_user`]. That the database is asked again only bounds the harm of a forgotten call:
//! [`renew`] asks for all that are in use together, so that the requests themselves need not.
//!
//! [`forget`]: Sessions::forget
//! [`forget_device`]: Sessions::forget_device
//! [`forget_user`]: Sessions::forget_user
//! [`renew`]: Sessions::renew

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use myelin_core::nid::UserNid;
use myelin_storage::{
    Storage, StorageError,
    devices::{Device, Seen},
    tokens::{self, TokenHash, TokenIdentity},
};
use parking_lot::Mutex;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, api::error::ErrorKind};
use tokio::{sync::Semaphore, time::timeout};

use crate::error::MatrixError;

/// How long a session is believed without asking the database. Longer than it takes until they are renewed.
const TIME_TO_LIVE_MS: u64 = 120_000;
/// So many sessions are looked for in the database at once.
const AT_ONCE: usize = 3;
/// After this time, others do not wait for them any longer.
const TURN: Duration = Duration::from_secs(1);
/// So many sessions are renewed by one statement.
const RENEWED_TOGETHER: usize = 100;
/// Sessions that are remembered at most.
const CAPACITY: usize = 100_000;
/// A device's last sight is noted again after this time.
const SEEN_EVERY_MS: u64 = 60_000;
/// So much is kept of what a client says that it is.
const MAX_AGENT_CHARS: usize = 200;

/// The sessions that were used lately. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    cache: Mutex<Cache>,
    seen: Mutex<HashMap<(UserNid, OwnedDeviceId), LastSeen>>,
    /// Who asks the database. The others wait: after a restart all clients come at once, and would have a connection
    /// opened each.
    asking: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Self { cache: Mutex::default(), seen: Mutex::default(), asking: Semaphore::new(AT_ONCE) }
    }
}

#[derive(Clone)]
struct LastSeen {
    /// In milliseconds since 1970.
    ms: u64,
    ip: Option<IpAddr>,
    agent: Option<String>,
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<TokenHash, Arc<Session>>,
    /// Grows whenever something is forgotten: an answer that was asked for before must not be remembered.
    forgotten: u64,
}

/// A local user, on a device, whose access token came with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own, set by a different hand")]
pub struct User {
    /// Their id.
    pub id: OwnedUserId,
    /// Their NID.
    pub nid: UserNid,
    /// The device that they use.
    pub device_id: OwnedDeviceId,
    /// Registered as a guest.
    pub is_guest: bool,
    /// May use the administration API.
    pub is_admin: bool,
    /// May read and leave, not take part: see [`User::require_active`].
    pub is_suspended: bool,
    /// May only log out.
    pub is_locked: bool,
    /// The application service that registered them.
    pub appservice_id: Option<String>,
}

impl User {
    /// Refuses a suspended user what only active ones may do: join, knock, invite, send, change the profile, and
    /// redact what others sent.
    pub fn require_active(&self) -> Result<(), MatrixError> {
        if self.is_suspended {
            return Err(MatrixError::refused(ErrorKind::UserSuspended, "your account is suspended"));
        }
        Ok(())
    }

    /// Refuses everyone but administrators.
    pub fn require_admin(&self) -> Result<(), MatrixError> {
        if self.is_admin { Ok(()) } else { Err(MatrixError::forbidden("you are not an administrator")) }
    }
}

/// A session, as the database had it a short while ago.
#[derive(Debug)]
pub struct Session {
    /// Whom its token proves.
    pub user: Arc<User>,
    /// When the token expires, in milliseconds since 1970.
    expires: Option<i64>,
    /// When the database was last asked.
    found_ms: AtomicU64,
    /// Whether a request has come with it since it was last renewed.
    is_used: AtomicBool,
    seen_ms: AtomicU64,
}

impl Session {
    fn new(identity: TokenIdentity, found_ms: u64) -> Self {
        let user = User {
            id: identity.user_id,
            nid: identity.user,
            device_id: identity.device_id,
            is_guest: identity.marks.is_guest,
            is_admin: identity.marks.is_admin,
            is_suspended: identity.marks.is_suspended,
            is_locked: identity.marks.is_locked,
            appservice_id: identity.appservice_id,
        };
        Self {
            user: Arc::new(user),
            expires: identity.expires,
            found_ms: AtomicU64::new(found_ms),
            is_used: AtomicBool::new(true),
            seen_ms: AtomicU64::new(0),
        }
    }

    fn is_believed(&self, now_ms: u64) -> bool {
        self.found_ms.load(Ordering::Relaxed) + TIME_TO_LIVE_MS > now_ms
    }

    /// Whether the database still says of its token what it said.
    fn agrees(&self, identity: TokenIdentity) -> bool {
        let is_good = !identity.is_unconfirmed && !identity.marks.is_deactivated;
        let found = Self::new(identity, 0);
        is_good && found.user == self.user && found.expires == self.expires
    }

    /// Whether its token is no longer good, and only the token: the client should refresh it or log in again.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires.is_some_and(|expires| u64::try_from(expires).unwrap_or(0) <= now_ms)
    }
}

impl Sessions {
    /// The session of an access token. `None`: the token proves nobody.
    ///
    /// The first use of a token that a refresh gave revokes what it replaces, before this returns.
    pub async fn find(
        &self,
        storage: &Storage,
        token: &str,
        now_ms: u64,
    ) -> Result<Option<Arc<Session>>, StorageError> {
        let hash = TokenHash::of(token);
        let forgotten = {
            let cache = self.0.cache.lock();
            match cache.sessions.get(&hash) {
                Some(session) if session.is_believed(now_ms) => {
                    session.is_used.store(true, Ordering::Relaxed);
                    return Ok(Some(Arc::clone(session)));
                }
                _ => cache.forgotten,
            }
        };
        // Boxed: a request whose session is remembered does not carry the room for this.
        Box::pin(self.load(storage, hash, now_ms, forgotten)).await
    }

    async fn load(
        &self,
        storage: &Storage,
        hash: TokenHash,
        now_ms: u64,
        mut forgotten: u64,
    ) -> Result<Option<Arc<Session>>, StorageError> {
        // Where the database is slow, everybody is told so in their own time.
        let _turn = timeout(TURN, self.0.asking.acquire()).await;
        let client = storage.get().await?;
        let Some(identity) = tokens::find_identity(&client, &hash).await? else { return Ok(None) };
        if identity.marks.is_deactivated {
            return Ok(None);
        }
        if identity.is_unconfirmed {
            let revoked = tokens::confirm(&client, &hash).await?;
            // Our own forgetting is no reason not to remember what was found.
            forgotten += u64::from(self.forget(&revoked) == forgotten + 1);
        }
        let session = Arc::new(Session::new(identity, now_ms));
        let mut cache = self.0.cache.lock();
        if cache.forgotten == forgotten {
            cache.make_room(now_ms);
            cache.sessions.insert(hash, Arc::clone(&session));
        }
        Ok(Some(session))
    }

    /// Asks the database for all sessions that were used since the last call; they are believed anew. Those that were
    /// not used, or are not what they were, are looked for again when a request comes with them.
    pub async fn renew(&self, storage: &Storage, now_ms: u64) -> Result<(), StorageError> {
        let in_use: Vec<_> = {
            let mut cache = self.0.cache.lock();
            cache.sessions.retain(|_, session| session.is_used.swap(false, Ordering::Relaxed));
            cache.sessions.iter().map(|(hash, session)| (*hash, Arc::clone(session))).collect()
        };
        if in_use.is_empty() {
            return Ok(());
        }
        let client = storage.get().await?;
        for some in in_use.chunks(RENEWED_TOGETHER) {
            let hashes: Vec<_> = some.iter().map(|(hash, _)| *hash).collect();
            let mut found = tokens::find_identities(&client, &hashes).await?;
            let mut cache = self.0.cache.lock();
            for (hash, session) in some {
                if found.remove(hash).is_some_and(|identity| session.agrees(identity)) {
                    // What was forgotten meanwhile is no longer in the cache, and stays forgotten.
                    session.found_ms.store(now_ms, Ordering::Relaxed);
                } else {
                    cache.sessions.remove(hash);
                }
            }
        }
        Ok(())
    }

    /// These tokens are no longer good, or prove something else. How often something was forgotten so far.
    pub fn forget(&self, tokens: &[TokenHash]) -> u64 {
        let mut cache = self.0.cache.lock();
        for token in tokens {
            cache.sessions.remove(token);
        }
        cache.forgotten += 1;
        cache.forgotten
    }

    /// The device was removed or has other tokens now.
    pub fn forget_device(&self, user: UserNid, device_id: &DeviceId) {
        self.forget_where(|gone| gone.nid == user && gone.device_id == device_id);
    }

    /// What the user may do has changed, or their sessions have ended.
    pub fn forget_user(&self, user: UserNid) {
        self.forget_where(|gone| gone.nid == user);
    }

    fn forget_where(&self, is_gone: impl Fn(&User) -> bool) {
        let mut cache = self.0.cache.lock();
        cache.sessions.retain(|_, session| !is_gone(&session.user));
        cache.forgotten += 1;
    }

    /// Notes that the session's device made a request, with what it says that it is. Costs nothing most of the time.
    pub fn note_seen(&self, session: &Session, ip: Option<IpAddr>, agent: Option<&str>, now_ms: u64) {
        let noted_ms = session.seen_ms.load(Ordering::Relaxed);
        if noted_ms + SEEN_EVERY_MS > now_ms {
            return;
        }
        session.seen_ms.store(now_ms, Ordering::Relaxed);
        let key = (session.user.nid, session.user.device_id.clone());
        let agent = agent.map(|agent| agent.chars().take(MAX_AGENT_CHARS).collect());
        self.0.seen.lock().insert(key, LastSeen { ms: now_ms, ip, agent });
    }

    /// What was noted since the last call: for [`devices::update_last_seen`](myelin_storage::devices).
    pub fn take_seen(&self) -> Vec<Seen> {
        let seen = std::mem::take(&mut *self.0.seen.lock());
        seen.into_iter().map(|((user, device_id), last)| last.of(user, device_id)).collect()
    }

    /// Says of the devices when they were last seen: what is not stored yet is newer than what is.
    pub fn freshen(&self, devices: &mut [Device]) {
        let seen = self.0.seen.lock();
        for device in devices {
            if let Some(last) = seen.get(&(device.user, device.device_id.clone())) {
                let last = last.clone().of(device.user, device.device_id.clone());
                device.last_seen_ts = Some(last.ts);
                device.last_seen_ip = last.ip.map(|ip| ip.to_string());
                device.last_seen_agent = last.agent;
            }
        }
    }
}

impl LastSeen {
    fn of(self, user: UserNid, device_id: OwnedDeviceId) -> Seen {
        let ts = i64::try_from(self.ms).unwrap_or(i64::MAX);
        Seen { user, device_id, ts, ip: self.ip, agent: self.agent }
    }
}

impl Cache {
    fn make_room(&mut self, now_ms: u64) {
        if self.sessions.len() < CAPACITY {
            return;
        }
        self.sessions.retain(|_, session| session.is_believed(now_ms));
        if self.sessions.len() >= CAPACITY {
            self.sessions.clear();
        }
    }
}
