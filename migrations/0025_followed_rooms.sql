-- How far this server has followed up what other servers change in rooms.

CREATE TABLE followed_rooms (
    "only"   BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK ("only"),
    position BIGINT NOT NULL CHECK (position >= 0)
);
COMMENT ON TABLE followed_rooms IS 'the cursor of what follows from state events of other servers: what the directory shows, and which guests have to leave';
COMMENT ON COLUMN followed_rooms."only" IS 'there is one row';
COMMENT ON COLUMN followed_rooms.position IS 'everything up to here was followed up';
INSERT INTO followed_rooms (position) SELECT position FROM journal;
