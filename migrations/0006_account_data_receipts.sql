-- What users keep about rooms: how far they have read, and data of their clients.

CREATE TABLE account_data (
    user_nid   INTEGER NOT NULL,
    room_nid   BIGINT NOT NULL CHECK (room_nid >= 0),
    event_type TEXT NOT NULL,
    content    TEXT,
    position   BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, event_type)
);
COMMENT ON TABLE account_data IS 'data that a user''s clients share, for the account and for each room';
COMMENT ON COLUMN account_data.user_nid IS 'whose it is';
COMMENT ON COLUMN account_data.room_nid IS 'the room that it is about; 0: the account as a whole';
COMMENT ON COLUMN account_data.event_type IS 'its type';
COMMENT ON COLUMN account_data.content IS 'JSON; NULL: deleted, which clients that sync must be told';
COMMENT ON COLUMN account_data.position IS 'when it last changed';
CREATE INDEX account_data_by_position ON account_data (user_nid, position);

CREATE TABLE receipts (
    room_nid     BIGINT NOT NULL,
    user_nid     INTEGER NOT NULL,
    receipt_type TEXT NOT NULL,
    thread       TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    ts           BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    PRIMARY KEY (room_nid, user_nid, receipt_type, thread)
);
COMMENT ON TABLE receipts IS 'the last receipt of each user, type and thread in a room';
COMMENT ON COLUMN receipts.room_nid IS 'the room';
COMMENT ON COLUMN receipts.user_nid IS 'who has read, local or remote';
COMMENT ON COLUMN receipts.receipt_type IS 'm.read, m.read.private';
COMMENT ON COLUMN receipts.thread IS 'main, or the event id of a thread''s root; empty: the receipt is for all of the room';
COMMENT ON COLUMN receipts.event_id IS 'the event that was read; a remote user''s may be unknown here';
COMMENT ON COLUMN receipts.ts IS 'milliseconds since 1970, when it was read';
COMMENT ON COLUMN receipts.position IS 'when it became durable';
CREATE INDEX receipts_by_position ON receipts (room_nid, position);

CREATE TABLE unread_counts (
    user_nid      INTEGER NOT NULL,
    room_nid      BIGINT NOT NULL,
    position      BIGINT NOT NULL,
    notifications INTEGER NOT NULL,
    highlights    INTEGER NOT NULL,
    threads       TEXT,
    PRIMARY KEY (user_nid, room_nid)
);
COMMENT ON TABLE unread_counts IS 'notification counts as they were at some position; brought forward when somebody asks';
COMMENT ON COLUMN unread_counts.user_nid IS 'a local user';
COMMENT ON COLUMN unread_counts.room_nid IS 'the room';
COMMENT ON COLUMN unread_counts.position IS 'events and receipts up to here are counted';
COMMENT ON COLUMN unread_counts.notifications IS 'unread events that notify, threads included';
COMMENT ON COLUMN unread_counts.highlights IS 'those of them that highlight';
COMMENT ON COLUMN unread_counts.threads IS 'JSON object from a thread''s root to its own [notifications, highlights]; NULL: no thread has any';
