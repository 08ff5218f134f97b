-- What other servers have sent and been told that it arrived: durable before it is answered, gone when it is decided.

CREATE TABLE inbound_pdus (
    inbound_nid BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id     TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    origin      TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    status      SMALLINT NOT NULL DEFAULT 1,
    attempts    INTEGER NOT NULL DEFAULT 0,
    failures    INTEGER NOT NULL DEFAULT 0,
    retry_ms    BIGINT NOT NULL DEFAULT 0,
    reason      TEXT,
    pdu         TEXT NOT NULL,
    UNIQUE (room_id, event_id, origin)
);
COMMENT ON TABLE inbound_pdus IS 'events of other servers that their rooms have not decided about yet';
COMMENT ON COLUMN inbound_pdus.inbound_nid IS 'grows in the order of arrival';
COMMENT ON COLUMN inbound_pdus.room_id IS 'the room';
COMMENT ON COLUMN inbound_pdus.event_id IS 'the event; one of the same id from another server may differ in its signatures';
COMMENT ON COLUMN inbound_pdus.origin IS 'the server that sent it, which need not be the one whose user made it';
COMMENT ON COLUMN inbound_pdus.received_ms IS 'when it arrived, in milliseconds since 1970';
COMMENT ON COLUMN inbound_pdus.status IS '1 waiting for the room, 2 parked until something is fetched, 3 quarantined: not tried again';
COMMENT ON COLUMN inbound_pdus.attempts IS 'how often it was tried';
COMMENT ON COLUMN inbound_pdus.failures IS 'how often servers did answer and it was of no use';
COMMENT ON COLUMN inbound_pdus.retry_ms IS 'not to be tried before, in milliseconds since 1970';
COMMENT ON COLUMN inbound_pdus.reason IS 'why it is parked or quarantined';
COMMENT ON COLUMN inbound_pdus.pdu IS 'the event as canonical JSON, its format checked, its signatures not';
CREATE INDEX inbound_pdus_by_room ON inbound_pdus (room_id, status, inbound_nid);
CREATE INDEX inbound_pdus_quarantined ON inbound_pdus (origin, inbound_nid) WHERE status = 3;

CREATE TABLE inbound_transactions (
    origin      TEXT NOT NULL,
    txn_id      TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    answer      TEXT NOT NULL,
    PRIMARY KEY (origin, txn_id)
);
COMMENT ON TABLE inbound_transactions IS 'transactions that were answered: the same one again gets the same answer';
COMMENT ON COLUMN inbound_transactions.origin IS 'the server that sent it';
COMMENT ON COLUMN inbound_transactions.txn_id IS 'the id that it gave it';
COMMENT ON COLUMN inbound_transactions.received_ms IS 'when it was answered, in milliseconds since 1970';
COMMENT ON COLUMN inbound_transactions.answer IS 'the answer: JSON object from event id to error, null where there was none';
CREATE INDEX inbound_transactions_by_time ON inbound_transactions (received_ms);
