-- Strings that are numbers inside the server. Rows are only ever added.

CREATE TABLE event_types (
    type_nid   INTEGER PRIMARY KEY CHECK (type_nid > 0),
    event_type BYTEA NOT NULL UNIQUE
);
COMMENT ON COLUMN event_types.type_nid IS 'NID of the event type; below 1000 fixed by core::nid::types';
COMMENT ON COLUMN event_types.event_type IS 'the type as events carry it, in UTF-8; not TEXT, because it may hold U+0000';

CREATE TABLE state_keys (
    state_key_nid INTEGER PRIMARY KEY CHECK (state_key_nid > 0),
    state_key     BYTEA NOT NULL UNIQUE
);
COMMENT ON COLUMN state_keys.state_key_nid IS 'NID of the state key, and of the user where the key is a user id; 1 is the empty key';
COMMENT ON COLUMN state_keys.state_key IS 'the state key as events carry it, in UTF-8; not TEXT, because it may hold U+0000';

-- Ranges of numbers are reserved here in a committed statement before the process hands them out.
CREATE TABLE nid_ranges (
    kind TEXT PRIMARY KEY,
    next BIGINT NOT NULL CHECK (next > 0)
);
COMMENT ON COLUMN nid_ranges.kind IS 'room, event, type, state_key, block or snapshot';
COMMENT ON COLUMN nid_ranges.next IS 'the first number that nobody has reserved';

INSERT INTO nid_ranges (kind, next)
VALUES ('room', 1), ('event', 1), ('type', 1000), ('state_key', 2), ('block', 1), ('snapshot', 1);

INSERT INTO state_keys (state_key_nid, state_key) VALUES (1, '');

INSERT INTO event_types (type_nid, event_type)
VALUES (1, 'm.room.create'), (2, 'm.room.power_levels'), (3, 'm.room.join_rules'),
       (4, 'm.room.third_party_invite'), (5, 'm.room.member'), (6, 'm.room.redaction'),
       (7, 'm.room.history_visibility'), (8, 'm.room.guest_access'), (9, 'm.room.name'), (10, 'm.room.topic'),
       (11, 'm.room.avatar'), (12, 'm.room.canonical_alias'), (13, 'm.room.aliases'), (14, 'm.room.encryption'),
       (15, 'm.room.server_acl'), (16, 'm.room.tombstone'), (17, 'm.room.message'), (18, 'm.room.encrypted'),
       (19, 'm.reaction'), (20, 'm.space.child'), (21, 'm.space.parent'), (22, 'm.room.pinned_events'),
       (23, 'm.room.policy'), (24, 'm.sticker');
