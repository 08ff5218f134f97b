-- Events that lose their content at a time that they name.

CREATE TABLE expiring_events (
    event_nid BIGINT PRIMARY KEY,
    room_nid  BIGINT NOT NULL,
    expires   BIGINT NOT NULL
);
COMMENT ON TABLE expiring_events IS 'events that name a time at which they lose their content; gone when they have lost it';
COMMENT ON COLUMN expiring_events.event_nid IS 'the event';
COMMENT ON COLUMN expiring_events.room_nid IS 'its room';
COMMENT ON COLUMN expiring_events.expires IS 'the time, or when it is tried again; in milliseconds since 1970';
CREATE INDEX expiring_events_by_time ON expiring_events (expires);

COMMENT ON COLUMN events.redacted_by IS 'the event that redacted it, or itself if its time was over; its pdu is then the redacted form';
