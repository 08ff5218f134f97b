-- Backups of the keys of rooms' messages, encrypted by clients.

CREATE TABLE key_backups (
    user_nid   INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    version    BIGINT NOT NULL CHECK (version > 0),
    algorithm  TEXT NOT NULL,
    auth_data  TEXT NOT NULL,
    etag       BIGINT NOT NULL DEFAULT 0,
    is_deleted BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (user_nid, version)
);
COMMENT ON TABLE key_backups IS 'versions of users'' key backups; only the last that is not deleted is written to';
COMMENT ON COLUMN key_backups.user_nid IS 'whose backup';
COMMENT ON COLUMN key_backups.version IS 'number of the version among the user''s';
COMMENT ON COLUMN key_backups.algorithm IS 'how its keys are encrypted';
COMMENT ON COLUMN key_backups.auth_data IS 'what clients know the backup by, a JSON object';
COMMENT ON COLUMN key_backups.etag IS 'changes whenever its keys do';
COMMENT ON COLUMN key_backups.is_deleted IS 'it is gone with its keys; the row stays, so that its number is not given again';

CREATE TABLE key_backup_keys (
    user_nid      INTEGER NOT NULL,
    version       BIGINT NOT NULL,
    room_id       TEXT NOT NULL,
    session_id    TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count     BIGINT NOT NULL,
    is_verified   BOOLEAN NOT NULL,
    key_data      TEXT NOT NULL,
    PRIMARY KEY (user_nid, version, room_id, session_id),
    FOREIGN KEY (user_nid, version) REFERENCES key_backups ON DELETE CASCADE
);
COMMENT ON TABLE key_backup_keys IS 'the keys in the backups';
COMMENT ON COLUMN key_backup_keys.user_nid IS 'whose backup';
COMMENT ON COLUMN key_backup_keys.version IS 'which version';
COMMENT ON COLUMN key_backup_keys.room_id IS 'the room whose messages the key reads, as the client names it';
COMMENT ON COLUMN key_backup_keys.session_id IS 'the session whose key it is';
COMMENT ON COLUMN key_backup_keys.first_message_index IS 'the first message that it reads';
COMMENT ON COLUMN key_backup_keys.forwarded_count IS 'how often it was forwarded';
COMMENT ON COLUMN key_backup_keys.is_verified IS 'the client trusts the device that it is from';
COMMENT ON COLUMN key_backup_keys.key_data IS 'the whole JSON object, the encrypted key included';
