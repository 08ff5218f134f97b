-- What users are told of rooms that this server is not in.

CREATE TABLE outside_memberships (
    room_nid BIGINT NOT NULL,
    user_nid INTEGER NOT NULL,
    stripped TEXT NOT NULL,
    PRIMARY KEY (room_nid, user_nid)
);
COMMENT ON TABLE outside_memberships IS 'what invited and knocking users are told of rooms that this server is not in; gone when their membership changes';
COMMENT ON COLUMN outside_memberships.room_nid IS 'the room; its row has no snapshot, or an old one';
COMMENT ON COLUMN outside_memberships.user_nid IS 'the user, who is of this server';
COMMENT ON COLUMN outside_memberships.stripped IS 'JSON array of stripped state events, without the user''s own member event';
CREATE INDEX outside_memberships_by_user ON outside_memberships (user_nid);
