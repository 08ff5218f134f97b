-- Accounts of this server, their devices, and everything that proves who someone is. Secrets are stored as hashes.

CREATE TABLE users (
    user_nid      INTEGER PRIMARY KEY CHECK (user_nid > 0),
    user_id       TEXT NOT NULL UNIQUE,
    password_hash TEXT,
    created       BIGINT NOT NULL,
    is_guest      BOOLEAN NOT NULL DEFAULT FALSE,
    is_admin      BOOLEAN NOT NULL DEFAULT FALSE,
    is_deactivated BOOLEAN NOT NULL DEFAULT FALSE,
    is_locked     BOOLEAN NOT NULL DEFAULT FALSE,
    is_suspended  BOOLEAN NOT NULL DEFAULT FALSE,
    is_erased     BOOLEAN NOT NULL DEFAULT FALSE,
    appservice_id TEXT
);
COMMENT ON TABLE users IS 'accounts of this server; a row stays when its account is deactivated, so that nobody gets the name again';
COMMENT ON COLUMN users.user_nid IS 'NID of the user, as a state key NID';
COMMENT ON COLUMN users.user_id IS 'the user id';
COMMENT ON COLUMN users.password_hash IS 'Argon2id in PHC form; NULL: nobody logs in with a password';
COMMENT ON COLUMN users.created IS 'milliseconds since 1970';
COMMENT ON COLUMN users.is_guest IS 'registered with kind=guest';
COMMENT ON COLUMN users.is_admin IS 'may use the administration API';
COMMENT ON COLUMN users.is_deactivated IS 'the account is gone for good, except for its name';
COMMENT ON COLUMN users.is_locked IS 'every request but logout is refused, tokens are kept';
COMMENT ON COLUMN users.is_suspended IS 'may read and leave, but not take part';
COMMENT ON COLUMN users.is_erased IS 'deactivated with the wish to be forgotten: later joiners get redacted copies of its events';
COMMENT ON COLUMN users.appservice_id IS 'the application service that registered it; NULL: a person did';

CREATE TABLE devices (
    user_nid     INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created      BIGINT NOT NULL,
    last_seen_ts BIGINT,
    last_seen_ip TEXT,
    PRIMARY KEY (user_nid, device_id)
) WITH (fillfactor = 80);
COMMENT ON COLUMN devices.user_nid IS 'whose device';
COMMENT ON COLUMN devices.device_id IS 'the device id, chosen by the client or by us';
COMMENT ON COLUMN devices.display_name IS 'its public name';
COMMENT ON COLUMN devices.created IS 'milliseconds since 1970';
COMMENT ON COLUMN devices.last_seen_ts IS 'when it last made a request, milliseconds since 1970, some minutes late; NULL: never';
COMMENT ON COLUMN devices.last_seen_ip IS 'from which address that request came';

CREATE TABLE access_tokens (
    token_hash   BYTEA PRIMARY KEY,
    user_nid     INTEGER NOT NULL,
    device_id    TEXT NOT NULL,
    expires      BIGINT,
    refresh_hash BYTEA,
    replaces     BYTEA,
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON COLUMN access_tokens.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN access_tokens.user_nid IS 'whom it proves';
COMMENT ON COLUMN access_tokens.device_id IS 'whose device it is for; it goes when the device goes';
COMMENT ON COLUMN access_tokens.expires IS 'milliseconds since 1970; NULL: never';
COMMENT ON COLUMN access_tokens.refresh_hash IS 'hash of the refresh token that was given together with it';
COMMENT ON COLUMN access_tokens.replaces IS 'hash of the refresh token that it was got for, until one of the new tokens is first used';
CREATE INDEX access_tokens_by_device ON access_tokens (user_nid, device_id);

CREATE TABLE refresh_tokens (
    token_hash BYTEA PRIMARY KEY,
    user_nid   INTEGER NOT NULL,
    device_id  TEXT NOT NULL,
    replaces   BYTEA,
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON COLUMN refresh_tokens.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN refresh_tokens.user_nid IS 'whom it proves';
COMMENT ON COLUMN refresh_tokens.device_id IS 'whose device it is for';
COMMENT ON COLUMN refresh_tokens.replaces IS 'hash of the refresh token that it was got for, until one of the new tokens is first used';
CREATE INDEX refresh_tokens_by_device ON refresh_tokens (user_nid, device_id);

CREATE TABLE login_tokens (
    token_hash BYTEA PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    expires    BIGINT NOT NULL
);
COMMENT ON TABLE login_tokens IS 'tokens for m.login.token; removed when used';
COMMENT ON COLUMN login_tokens.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN login_tokens.user_nid IS 'who may log in with it';
COMMENT ON COLUMN login_tokens.expires IS 'milliseconds since 1970';

CREATE TABLE openid_tokens (
    token_hash BYTEA PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    expires    BIGINT NOT NULL
);
COMMENT ON TABLE openid_tokens IS 'tokens by which a user proves their id to a third party, who asks us over the federation API';
COMMENT ON COLUMN openid_tokens.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN openid_tokens.user_nid IS 'whom it names';
COMMENT ON COLUMN openid_tokens.expires IS 'milliseconds since 1970';

CREATE TABLE registration_tokens (
    token        TEXT PRIMARY KEY,
    uses_allowed INTEGER,
    pending      INTEGER NOT NULL DEFAULT 0,
    completed    INTEGER NOT NULL DEFAULT 0,
    expires      BIGINT
);
COMMENT ON COLUMN registration_tokens.token IS 'the token in clear: administrators read it again to hand it out';
COMMENT ON COLUMN registration_tokens.uses_allowed IS 'how many accounts it is good for; NULL: any number';
COMMENT ON COLUMN registration_tokens.pending IS 'registrations that have shown it and are not finished';
COMMENT ON COLUMN registration_tokens.completed IS 'accounts that were made with it';
COMMENT ON COLUMN registration_tokens.expires IS 'milliseconds since 1970; NULL: never';

CREATE TABLE registration_nonces (
    nonce   TEXT PRIMARY KEY,
    expires BIGINT NOT NULL
);
COMMENT ON TABLE registration_nonces IS 'nonces given out for shared-secret registration; removed when used';
COMMENT ON COLUMN registration_nonces.nonce IS 'the nonce';
COMMENT ON COLUMN registration_nonces.expires IS 'milliseconds since 1970';

CREATE TABLE uia_sessions (
    session_hash BYTEA PRIMARY KEY,
    operation    TEXT NOT NULL,
    request_mac  BYTEA,
    user_nid     INTEGER,
    completed    TEXT[] NOT NULL DEFAULT '{}',
    remembered   TEXT,
    outcome      TEXT,
    registration_token TEXT,
    expires      BIGINT NOT NULL
);
COMMENT ON TABLE uia_sessions IS 'user-interactive authentication that is under way';
COMMENT ON COLUMN uia_sessions.session_hash IS 'SHA-256 of the session id, which only the client has';
COMMENT ON COLUMN uia_sessions.operation IS 'what the session allows, with what it is done to';
COMMENT ON COLUMN uia_sessions.request_mac IS 'keyed with the session id: the parameters of the request that it allows; NULL until the first stage is done';
COMMENT ON COLUMN uia_sessions.user_nid IS 'who makes the request; NULL: someone without an account';
COMMENT ON COLUMN uia_sessions.completed IS 'the stages done so far, in their order';
COMMENT ON COLUMN uia_sessions.remembered IS 'parameters of the first request as JSON, for clients that do not repeat them; passwords are hashed';
COMMENT ON COLUMN uia_sessions.outcome IS 'the user id that was registered, so that a repeated request gets the same answer';
COMMENT ON COLUMN uia_sessions.registration_token IS 'the registration token that the session holds a pending use of';
COMMENT ON COLUMN uia_sessions.expires IS 'milliseconds since 1970';
CREATE INDEX uia_sessions_by_expiry ON uia_sessions (expires);

CREATE TABLE profile_fields (
    user_nid INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    field    TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (user_nid, field)
);
COMMENT ON TABLE profile_fields IS 'global profiles of local users';
COMMENT ON COLUMN profile_fields.user_nid IS 'whose profile';
COMMENT ON COLUMN profile_fields.field IS 'name of the field: displayname, avatar_url or another';
COMMENT ON COLUMN profile_fields.value IS 'its value as JSON; not JSONB, which refuses an escaped U+0000';

CREATE TABLE filters (
    filter_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_nid  INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    hash      BYTEA NOT NULL,
    filter    TEXT NOT NULL,
    UNIQUE (user_nid, hash)
);
COMMENT ON COLUMN filters.filter_id IS 'the id that the client gets';
COMMENT ON COLUMN filters.user_nid IS 'whose filter';
COMMENT ON COLUMN filters.hash IS 'SHA-256 of the filter: an equal one is stored once';
COMMENT ON COLUMN filters.filter IS 'the filter as JSON';
