-- Finding rooms: aliases, the published list, and what the list says about each room.

CREATE TABLE room_aliases (
    alias       TEXT PRIMARY KEY,
    room_nid    BIGINT NOT NULL,
    creator_nid INTEGER NOT NULL,
    created     BIGINT NOT NULL
);
COMMENT ON COLUMN room_aliases.alias IS 'an alias of this server';
COMMENT ON COLUMN room_aliases.room_nid IS 'the room it leads to';
COMMENT ON COLUMN room_aliases.creator_nid IS 'who made it, and may remove it';
COMMENT ON COLUMN room_aliases.created IS 'milliseconds since 1970';
CREATE INDEX room_aliases_by_room ON room_aliases (room_nid);

CREATE TABLE published_rooms (
    room_nid BIGINT NOT NULL,
    network  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (network, room_nid)
);
COMMENT ON TABLE published_rooms IS 'rooms that the public room directory lists';
COMMENT ON COLUMN published_rooms.room_nid IS 'the room';
COMMENT ON COLUMN published_rooms.network IS 'empty: the server''s own list; else the instance id of an application service''s network';

CREATE TABLE room_summaries (
    room_nid           BIGINT PRIMARY KEY,
    name               TEXT,
    topic              TEXT,
    avatar_url         TEXT,
    canonical_alias    TEXT,
    join_rule          TEXT NOT NULL,
    guest_can_join     BOOLEAN NOT NULL,
    history_visibility TEXT NOT NULL,
    room_type          TEXT,
    encryption         TEXT,
    joined_members     BIGINT NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE room_summaries IS 'what the directory shows of a room: derived from its current state, and written again when that changes';
COMMENT ON COLUMN room_summaries.room_nid IS 'the room';
COMMENT ON COLUMN room_summaries.name IS 'content.name of m.room.name';
COMMENT ON COLUMN room_summaries.topic IS 'plain text of m.room.topic';
COMMENT ON COLUMN room_summaries.avatar_url IS 'content.url of m.room.avatar';
COMMENT ON COLUMN room_summaries.canonical_alias IS 'content.alias of m.room.canonical_alias';
COMMENT ON COLUMN room_summaries.join_rule IS 'content.join_rule of m.room.join_rules';
COMMENT ON COLUMN room_summaries.guest_can_join IS 'm.room.guest_access says can_join';
COMMENT ON COLUMN room_summaries.history_visibility IS 'content.history_visibility of m.room.history_visibility, shared when absent';
COMMENT ON COLUMN room_summaries.room_type IS 'content.type of m.room.create; NULL: an ordinary room';
COMMENT ON COLUMN room_summaries.encryption IS 'content.algorithm of m.room.encryption; NULL: not encrypted';
COMMENT ON COLUMN room_summaries.joined_members IS 'how many users are joined';
CREATE INDEX room_summaries_by_size ON room_summaries (joined_members DESC, room_nid);
