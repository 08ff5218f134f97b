-- Users of other servers, to be found in the user directory.

CREATE TABLE remote_users (
    user_nid     INTEGER PRIMARY KEY,
    user_id      TEXT NOT NULL,
    display_name TEXT
);
COMMENT ON TABLE remote_users IS 'users of other servers who have joined rooms that this server knows; whether somebody may find them is for memberships to say';
COMMENT ON COLUMN remote_users.user_nid IS 'NID of the user, as a state key NID';
COMMENT ON COLUMN remote_users.user_id IS 'the user id';
COMMENT ON COLUMN remote_users.display_name IS 'the beginning of content.displayname in the member event that was the last to join them to a room; NULL: it has none';

-- Texts with U+0000, which TEXT cannot hold, are left out.
INSERT INTO remote_users (user_nid, user_id, display_name)
SELECT DISTINCT ON (user_nid) user_nid, CONVERT_FROM(state_key, 'UTF8'),
       CASE WHEN POSITION('\u0000' IN pdu) = 0 THEN
           CASE WHEN JSON_TYPEOF(pdu::JSON -> 'content' -> 'displayname') = 'string' THEN
               LEFT(pdu::JSON -> 'content' ->> 'displayname', 255)
           END
       END
FROM   memberships
JOIN   state_keys ON state_key_nid = user_nid
JOIN   events USING (event_nid)
WHERE  membership = 2
  AND  NOT is_local
  AND  POSITION('\x00'::BYTEA IN state_key) = 0
ORDER  BY user_nid, event_nid DESC;

-- Whether somebody of this server is in a room.
CREATE INDEX memberships_of_ours ON memberships (room_nid) WHERE is_local AND membership = 2;
