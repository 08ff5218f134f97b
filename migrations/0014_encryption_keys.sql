-- End-to-end encryption: keys of devices and of users, who has to be told of their changes, and messages from device
-- to device. Keys are JSON as their device signed it; the server believes none of them.

CREATE TABLE device_keys (
    user_nid  INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    keys      TEXT NOT NULL,
    PRIMARY KEY (user_nid, device_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON TABLE device_keys IS 'identity keys of local devices';
COMMENT ON COLUMN device_keys.user_nid IS 'whose device';
COMMENT ON COLUMN device_keys.device_id IS 'the device; its keys go when it goes';
COMMENT ON COLUMN device_keys.keys IS 'the signed JSON object, without unsigned';

CREATE SEQUENCE one_time_key_uploads AS BIGINT;

CREATE TABLE one_time_keys (
    user_nid  INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    upload    BIGINT NOT NULL,
    claimed   BIGINT,
    PRIMARY KEY (user_nid, device_id, algorithm, key_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON TABLE one_time_keys IS 'keys that are given to one asker each; a claimed one is kept for a while, so that a repeated upload does not bring it back';
COMMENT ON COLUMN one_time_keys.user_nid IS 'whose device';
COMMENT ON COLUMN one_time_keys.device_id IS 'the device';
COMMENT ON COLUMN one_time_keys.algorithm IS 'what stands before the colon of the key''s name';
COMMENT ON COLUMN one_time_keys.key_id IS 'what stands after it';
COMMENT ON COLUMN one_time_keys.key IS 'the key, as JSON';
COMMENT ON COLUMN one_time_keys.upload IS 'number of the upload that brought it: keys are claimed in this order';
COMMENT ON COLUMN one_time_keys.claimed IS 'milliseconds since 1970, when it was given away; NULL: it can still be claimed';
CREATE INDEX one_time_keys_to_claim ON one_time_keys (user_nid, device_id, algorithm, upload) WHERE claimed IS NULL;

CREATE TABLE fallback_keys (
    user_nid  INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       TEXT NOT NULL,
    is_used   BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (user_nid, device_id, algorithm),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON TABLE fallback_keys IS 'keys that are given to anybody when one-time keys have run out';
COMMENT ON COLUMN fallback_keys.user_nid IS 'whose device';
COMMENT ON COLUMN fallback_keys.device_id IS 'the device';
COMMENT ON COLUMN fallback_keys.algorithm IS 'what stands before the colon of the key''s name; one key for each';
COMMENT ON COLUMN fallback_keys.key_id IS 'what stands after it';
COMMENT ON COLUMN fallback_keys.key IS 'the key, as JSON';
COMMENT ON COLUMN fallback_keys.is_used IS 'it was given to somebody';

CREATE TABLE cross_signing_keys (
    user_nid   INTEGER NOT NULL,
    usage      SMALLINT NOT NULL,
    public_key TEXT NOT NULL,
    key        TEXT NOT NULL,
    PRIMARY KEY (user_nid, usage)
);
COMMENT ON TABLE cross_signing_keys IS 'cross-signing keys of local users, and of remote ones whose devices are cached';
COMMENT ON COLUMN cross_signing_keys.user_nid IS 'whose key, as a state key NID';
COMMENT ON COLUMN cross_signing_keys.usage IS '1 master, 2 self-signing, 3 user-signing';
COMMENT ON COLUMN cross_signing_keys.public_key IS 'the public key in unpadded base64, as its name says';
COMMENT ON COLUMN cross_signing_keys.key IS 'the signed JSON object';

CREATE TABLE key_signatures (
    target_nid INTEGER NOT NULL,
    target_key TEXT NOT NULL,
    signer_nid INTEGER NOT NULL,
    key_id     TEXT NOT NULL,
    signature  TEXT NOT NULL,
    PRIMARY KEY (target_nid, target_key, signer_nid, key_id)
);
COMMENT ON TABLE key_signatures IS 'signatures that local users have added to keys after their upload';
COMMENT ON COLUMN key_signatures.target_nid IS 'whose key is signed';
COMMENT ON COLUMN key_signatures.target_key IS 'a device id, or the public key of a cross-signing key';
COMMENT ON COLUMN key_signatures.signer_nid IS 'the local user who signed';
COMMENT ON COLUMN key_signatures.key_id IS 'the key that signed: ed25519:...';
COMMENT ON COLUMN key_signatures.signature IS 'the signature in base64';
CREATE INDEX key_signatures_by_signer ON key_signatures (signer_nid, key_id);

CREATE TABLE device_list_changes (
    user_nid   INTEGER NOT NULL,
    viewer_nid INTEGER NOT NULL,
    position   BIGINT NOT NULL,
    PRIMARY KEY (user_nid, viewer_nid)
);
COMMENT ON TABLE device_list_changes IS 'when the devices or cross-signing keys of a user, local or remote, changed last';
COMMENT ON COLUMN device_list_changes.user_nid IS 'whose';
COMMENT ON COLUMN device_list_changes.viewer_nid IS 'the only user for whom they changed; 0: everyone who shares a room';
COMMENT ON COLUMN device_list_changes.position IS 'when';
CREATE INDEX device_list_changes_by_position ON device_list_changes (position);

CREATE TABLE device_list_streams (
    user_nid  INTEGER PRIMARY KEY,
    stream_id BIGINT NOT NULL
);
COMMENT ON TABLE device_list_streams IS 'how far the sequence of m.device_list_update of a local user is';
COMMENT ON COLUMN device_list_streams.user_nid IS 'whose';
COMMENT ON COLUMN device_list_streams.stream_id IS 'stream_id of the last update, which is its position';

CREATE TABLE device_list_outbox (
    position  BIGINT PRIMARY KEY,
    user_nid  INTEGER NOT NULL,
    device_id TEXT,
    prev_id   BIGINT
);
COMMENT ON TABLE device_list_outbox IS 'changes of local users'' devices that other servers have to be told, until the messages are queued';
COMMENT ON COLUMN device_list_outbox.position IS 'when; the update''s stream_id';
COMMENT ON COLUMN device_list_outbox.user_nid IS 'whose device';
COMMENT ON COLUMN device_list_outbox.device_id IS 'the device; NULL: the cross-signing keys';
COMMENT ON COLUMN device_list_outbox.prev_id IS 'stream_id of the user''s update before; NULL: this is the first';

CREATE TABLE remote_device_lists (
    user_nid  INTEGER PRIMARY KEY,
    stream_id BIGINT NOT NULL,
    fetched   BIGINT NOT NULL,
    is_stale  BOOLEAN NOT NULL
);
COMMENT ON TABLE remote_device_lists IS 'remote users whose devices are cached';
COMMENT ON COLUMN remote_device_lists.user_nid IS 'whose';
COMMENT ON COLUMN remote_device_lists.stream_id IS 'stream_id of the last update that is in the cache';
COMMENT ON COLUMN remote_device_lists.fetched IS 'position at which the list was fetched: it holds as long as a room has been shared since then; 0: never';
COMMENT ON COLUMN remote_device_lists.is_stale IS 'an update was missed: the list has to be fetched again';
CREATE INDEX remote_device_lists_to_fetch ON remote_device_lists (user_nid) WHERE is_stale;

CREATE TABLE remote_devices (
    user_nid     INTEGER NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    keys         TEXT,
    PRIMARY KEY (user_nid, device_id)
);
COMMENT ON TABLE remote_devices IS 'devices of remote users, as their servers told them';
COMMENT ON COLUMN remote_devices.user_nid IS 'whose';
COMMENT ON COLUMN remote_devices.device_id IS 'the device';
COMMENT ON COLUMN remote_devices.display_name IS 'its public name';
COMMENT ON COLUMN remote_devices.keys IS 'its identity keys, as JSON; NULL: it has none';

CREATE TABLE to_device_messages (
    user_nid   INTEGER NOT NULL,
    device_id  TEXT NOT NULL,
    position   BIGINT NOT NULL,
    sender     TEXT NOT NULL,
    event_type TEXT NOT NULL,
    content    TEXT NOT NULL,
    PRIMARY KEY (user_nid, device_id, position),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON TABLE to_device_messages IS 'messages that wait for a local device';
COMMENT ON COLUMN to_device_messages.user_nid IS 'whose device';
COMMENT ON COLUMN to_device_messages.device_id IS 'the device';
COMMENT ON COLUMN to_device_messages.position IS 'when it came; the device has it when it comes back with a token of this position or later';
COMMENT ON COLUMN to_device_messages.sender IS 'user id of the sender';
COMMENT ON COLUMN to_device_messages.event_type IS 'its type';
COMMENT ON COLUMN to_device_messages.content IS 'its content, a JSON object';

CREATE TABLE to_device_transactions (
    sender_nid INTEGER NOT NULL,
    scope      TEXT NOT NULL,
    txn_id     TEXT NOT NULL,
    position   BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (sender_nid, scope, txn_id)
);
COMMENT ON TABLE to_device_transactions IS 'requests to send to devices that were fulfilled: a repeated one does nothing';
COMMENT ON COLUMN to_device_transactions.sender_nid IS 'who sent, as a state key NID';
COMMENT ON COLUMN to_device_transactions.scope IS 'device and event type of a local sender; empty for a message id of another server';
COMMENT ON COLUMN to_device_transactions.txn_id IS 'the transaction id or message id';
COMMENT ON COLUMN to_device_transactions.position IS 'when its messages came';
COMMENT ON COLUMN to_device_transactions.created IS 'milliseconds since 1970; forgotten after some days';
CREATE INDEX to_device_transactions_by_time ON to_device_transactions (created);

-- Who has come and gone since a position, and whether anybody of this server is in a room.
CREATE INDEX memberships_by_position ON memberships (room_nid, position);
CREATE INDEX memberships_here ON memberships (room_nid) WHERE is_local AND membership = 2;
