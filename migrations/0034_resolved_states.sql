-- Where branches meet, the current state is not what follows from the last event of the timeline.

CREATE TABLE resolved_states (
    room_nid     BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    snapshot_nid BIGINT NOT NULL,
    PRIMARY KEY (room_nid, position)
);
COMMENT ON TABLE resolved_states IS 'current states of rooms that are not the state after the last event of the timeline';
COMMENT ON COLUMN resolved_states.room_nid IS 'the room';
COMMENT ON COLUMN resolved_states.position IS 'since when the state was that, until the next row or the next event of the timeline';
COMMENT ON COLUMN resolved_states.snapshot_nid IS 'the state';
