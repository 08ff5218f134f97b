-- Positions: one row, advanced by the journal's transaction, so that numbers are in commit order.
CREATE TABLE journal (
    "only"     BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK ("only"),
    position BIGINT NOT NULL CHECK (position >= 0)
);
COMMENT ON COLUMN journal."only" IS 'there is one row';
COMMENT ON COLUMN journal.position IS 'the last position given to a durable change';
INSERT INTO journal (position) VALUES (0);

CREATE TABLE journal_batches (
    batch_id BYTEA PRIMARY KEY,
    position BIGINT NOT NULL
);
COMMENT ON TABLE journal_batches IS 'recent batches, by which the journal learns after a lost connection whether its commit happened';
COMMENT ON COLUMN journal_batches.batch_id IS 'random id of the batch, 16 bytes';
COMMENT ON COLUMN journal_batches.position IS 'the last position of the batch';

CREATE TABLE rooms (
    room_nid     BIGINT PRIMARY KEY CHECK (room_nid > 0),
    room_id      TEXT NOT NULL UNIQUE,
    room_version TEXT NOT NULL,
    version      BIGINT NOT NULL,
    snapshot_nid BIGINT,
    extremities  BIGINT[] NOT NULL,
    depth        BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    receipt_position BIGINT NOT NULL DEFAULT 0
);
COMMENT ON COLUMN rooms.room_nid IS 'NID of the room';
COMMENT ON COLUMN rooms.room_id IS 'the room id';
COMMENT ON COLUMN rooms.room_version IS 'the room version that the create event names';
COMMENT ON COLUMN rooms.version IS 'the fence: each commit that changes the room advances it by one for each decision, from the value that the decision was built on';
COMMENT ON COLUMN rooms.snapshot_nid IS 'the current state, after all forward extremities; NULL while the room has no event of its own here';
COMMENT ON COLUMN rooms.extremities IS 'NIDs of the forward extremities';
COMMENT ON COLUMN rooms.depth IS 'the greatest depth among the extremities';
COMMENT ON COLUMN rooms.position IS 'position of the last change to the room''s timeline or state';
COMMENT ON COLUMN rooms.receipt_position IS 'position of the last receipt in the room';

CREATE TABLE events (
    event_nid     BIGINT PRIMARY KEY CHECK (event_nid > 0),
    event_id      TEXT NOT NULL UNIQUE,
    room_nid      BIGINT NOT NULL,
    type_nid      INTEGER NOT NULL,
    state_key_nid INTEGER,
    sender_nid    INTEGER NOT NULL,
    depth         BIGINT NOT NULL,
    origin_server_ts BIGINT NOT NULL,
    admission     SMALLINT NOT NULL,
    reason        TEXT,
    snapshot_nid  BIGINT,
    position      BIGINT NOT NULL,
    anchor        BIGINT,
    anchor_offset INTEGER NOT NULL DEFAULT 0,
    prev_nids     BIGINT[] NOT NULL,
    auth_nids     BIGINT[] NOT NULL,
    replaces_nid  BIGINT,
    redacted_by   BIGINT,
    pdu           TEXT NOT NULL
);
COMMENT ON COLUMN events.event_nid IS 'NID of the event';
COMMENT ON COLUMN events.event_id IS 'the event id';
COMMENT ON COLUMN events.room_nid IS 'its room';
COMMENT ON COLUMN events.type_nid IS 'its type';
COMMENT ON COLUMN events.state_key_nid IS 'its state key; NULL: not a state event';
COMMENT ON COLUMN events.sender_nid IS 'its sender, as a state key NID';
COMMENT ON COLUMN events.depth IS 'depth as the PDU says, bounded to 63 bits';
COMMENT ON COLUMN events.origin_server_ts IS 'milliseconds since 1970 as the PDU says';
COMMENT ON COLUMN events.admission IS '1 accepted, 2 soft-failed, 3 rejected, 4 outlier';
COMMENT ON COLUMN events.reason IS 'why it was soft-failed or rejected';
COMMENT ON COLUMN events.snapshot_nid IS 'the state before the event; NULL: unknown (outlier) or empty (create event)';
COMMENT ON COLUMN events.position IS 'when it became durable';
COMMENT ON COLUMN events.anchor IS 'its place in the timeline (core::position::TimelinePlace); NULL: not in the timeline';
COMMENT ON COLUMN events.anchor_offset IS '0 for a live event, negative for one fetched later';
COMMENT ON COLUMN events.prev_nids IS 'its prev events, as far as they are known here';
COMMENT ON COLUMN events.auth_nids IS 'its auth events';
COMMENT ON COLUMN events.replaces_nid IS 'the event with the same type and state key in the state before it';
COMMENT ON COLUMN events.redacted_by IS 'the event that redacted it; its pdu is then the redacted form';
COMMENT ON COLUMN events.pdu IS 'the PDU as canonical JSON, signatures included';

CREATE UNIQUE INDEX events_by_timeline ON events (room_nid, anchor, anchor_offset) WHERE anchor IS NOT NULL;
CREATE INDEX events_by_position ON events (position);
CREATE INDEX events_by_time ON events (room_nid, origin_server_ts) WHERE anchor IS NOT NULL;

CREATE TABLE client_transactions (
    room_nid  BIGINT NOT NULL,
    user_nid  INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    scope     TEXT NOT NULL,
    txn_id    TEXT NOT NULL,
    event_nid BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    PRIMARY KEY (event_nid)
);
COMMENT ON TABLE client_transactions IS 'which event a client''s transaction id made: a retry gets the same answer, and the device sees its own id';
COMMENT ON COLUMN client_transactions.room_nid IS 'room of the event';
COMMENT ON COLUMN client_transactions.user_nid IS 'who sent it';
COMMENT ON COLUMN client_transactions.device_id IS 'the device whose transaction it was';
COMMENT ON COLUMN client_transactions.scope IS 'what else the id is scoped to: the endpoint and the event type, as the path had them';
COMMENT ON COLUMN client_transactions.txn_id IS 'the transaction id';
COMMENT ON COLUMN client_transactions.event_nid IS 'the event that it made';
COMMENT ON COLUMN client_transactions.created IS 'milliseconds since 1970; forgotten after a day';
CREATE INDEX client_transactions_by_room ON client_transactions (room_nid, created);

CREATE TABLE memberships (
    room_nid   BIGINT NOT NULL,
    user_nid   INTEGER NOT NULL,
    membership SMALLINT NOT NULL,
    event_nid  BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    is_local   BOOLEAN NOT NULL,
    forgotten  BOOLEAN NOT NULL DEFAULT FALSE,
    joined_at  BIGINT,
    PRIMARY KEY (room_nid, user_nid)
);
COMMENT ON TABLE memberships IS 'who is what in the current state of each room: derived from the state by the same commit';
COMMENT ON COLUMN memberships.room_nid IS 'the room';
COMMENT ON COLUMN memberships.user_nid IS 'the member, as a state key NID';
COMMENT ON COLUMN memberships.membership IS '1 invite, 2 join, 3 knock, 4 leave, 5 ban';
COMMENT ON COLUMN memberships.event_nid IS 'the member event in the current state';
COMMENT ON COLUMN memberships.position IS 'when the membership (not the display name) last changed';
COMMENT ON COLUMN memberships.is_local IS 'the user is of this server';
COMMENT ON COLUMN memberships.forgotten IS 'the user has forgotten the room since leaving it';
COMMENT ON COLUMN memberships.joined_at IS 'position of the last change to join, kept after leaving; NULL: was never joined';
CREATE INDEX memberships_by_user ON memberships (user_nid, room_nid);

CREATE TABLE relations (
    room_nid    BIGINT NOT NULL,
    parent_id   TEXT NOT NULL,
    child_nid   BIGINT NOT NULL,
    rel_type    TEXT NOT NULL,
    type_nid    INTEGER NOT NULL,
    sender_nid  INTEGER NOT NULL,
    aggregation_key TEXT,
    PRIMARY KEY (child_nid)
);
COMMENT ON TABLE relations IS 'm.relates_to of accepted events, so that children of an event are found';
COMMENT ON COLUMN relations.room_nid IS 'the room';
COMMENT ON COLUMN relations.parent_id IS 'event id that the child relates to; it may be unknown here';
COMMENT ON COLUMN relations.child_nid IS 'the event that relates';
COMMENT ON COLUMN relations.rel_type IS 'm.thread, m.replace, m.annotation, m.reference, ...';
COMMENT ON COLUMN relations.type_nid IS 'type of the child';
COMMENT ON COLUMN relations.sender_nid IS 'sender of the child';
COMMENT ON COLUMN relations.aggregation_key IS 'key of an annotation';
CREATE INDEX relations_by_parent ON relations (parent_id, rel_type);
CREATE INDEX relations_of_threads ON relations (room_nid, parent_id) WHERE rel_type = 'm.thread';
