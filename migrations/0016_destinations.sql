-- What other servers have still to be sent.

ALTER TABLE events ADD COLUMN relay BOOLEAN NOT NULL DEFAULT FALSE;
COMMENT ON COLUMN events.relay IS 'this server tells the other servers in the room of the event: a local user sent it, or another server asked for it';
CREATE INDEX events_to_relay ON events (room_nid, position) WHERE relay;

CREATE TABLE federation_sender (
    "only"   BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK ("only"),
    position BIGINT NOT NULL CHECK (position >= 0)
);
COMMENT ON TABLE federation_sender IS 'the cursor of all destinations of which destination_rooms says nothing';
COMMENT ON COLUMN federation_sender."only" IS 'there is one row';
COMMENT ON COLUMN federation_sender.position IS 'every event up to here was acknowledged by the servers that it was for, or stands behind a row of destination_rooms';
INSERT INTO federation_sender (position) SELECT position FROM journal;

CREATE TABLE destinations (
    server_name  TEXT PRIMARY KEY,
    failures     INTEGER NOT NULL CHECK (failures >= 0),
    retry_at     BIGINT NOT NULL,
    last_success BIGINT
);
COMMENT ON TABLE destinations IS 'how it went with each server that was sent something';
COMMENT ON COLUMN destinations.server_name IS 'the server';
COMMENT ON COLUMN destinations.failures IS 'attempts that failed since the last one that did not';
COMMENT ON COLUMN destinations.retry_at IS 'not to be tried before, in milliseconds since 1970; 0: any time';
COMMENT ON COLUMN destinations.last_success IS 'when it last acknowledged a transaction, in milliseconds since 1970, give or take some minutes; NULL: never';

CREATE TABLE destination_rooms (
    server_name TEXT NOT NULL,
    room_nid    BIGINT NOT NULL,
    after       BIGINT NOT NULL,
    upto        BIGINT,
    PRIMARY KEY (server_name, room_nid)
);
COMMENT ON TABLE destination_rooms IS 'the cursors of destinations that are behind: a row for each room of which they have missed something';
COMMENT ON COLUMN destination_rooms.server_name IS 'the server';
COMMENT ON COLUMN destination_rooms.room_nid IS 'the room';
COMMENT ON COLUMN destination_rooms.after IS 'the server has acknowledged the room''s relayed events up to this position, or was not to have them';
COMMENT ON COLUMN destination_rooms.upto IS 'the server is not to have later events: it has left; NULL: it is in the room';

CREATE TABLE outgoing_edus (
    position BIGINT PRIMARY KEY,
    edu_type TEXT NOT NULL,
    content  TEXT NOT NULL
);
COMMENT ON TABLE outgoing_edus IS 'messages to devices, changes of device lists and the like, until every server they are for has acknowledged them';
COMMENT ON COLUMN outgoing_edus.position IS 'when it became durable';
COMMENT ON COLUMN outgoing_edus.edu_type IS 'its type';
COMMENT ON COLUMN outgoing_edus.content IS 'its content, a JSON object';

CREATE TABLE outgoing_edu_servers (
    server_name TEXT NOT NULL,
    position    BIGINT NOT NULL,
    PRIMARY KEY (server_name, position)
);
COMMENT ON TABLE outgoing_edu_servers IS 'which servers have still to acknowledge which of outgoing_edus';
COMMENT ON COLUMN outgoing_edu_servers.server_name IS 'the server';
COMMENT ON COLUMN outgoing_edu_servers.position IS 'the EDU';
CREATE INDEX outgoing_edu_servers_by_position ON outgoing_edu_servers (position);
