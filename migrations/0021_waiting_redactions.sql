-- Redactions that came before what they redact.

CREATE TABLE waiting_redactions (
    event_nid BIGINT PRIMARY KEY,
    room_nid  BIGINT NOT NULL,
    target_id TEXT NOT NULL
);
COMMENT ON TABLE waiting_redactions IS 'accepted redactions whose target is not known; gone when they were applied';
COMMENT ON COLUMN waiting_redactions.event_nid IS 'the redaction';
COMMENT ON COLUMN waiting_redactions.room_nid IS 'its room';
COMMENT ON COLUMN waiting_redactions.target_id IS 'id of the event that it redacts';
CREATE INDEX waiting_redactions_by_target ON waiting_redactions (target_id);
