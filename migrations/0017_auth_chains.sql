-- What state events are based on, so that states which differ in little can be resolved by looking at little.

CREATE TABLE auth_chains (
    event_nid BIGINT PRIMARY KEY,
    chain_nid BIGINT NOT NULL,
    place     BIGINT NOT NULL,
    since     BIGINT NOT NULL
);
COMMENT ON TABLE auth_chains IS 'a row for every state event that was not rejected and whose auth events are all stored, written by the commit that adds it';
COMMENT ON COLUMN auth_chains.event_nid IS 'the event';
COMMENT ON COLUMN auth_chains.chain_nid IS 'the first event of its chain: a line of events with one type and state key, each an auth event of the next';
COMMENT ON COLUMN auth_chains.place IS 'its number in the chain, from 1';
COMMENT ON COLUMN auth_chains.since IS 'the position at which it was first stored: greater than those of its auth events';
CREATE UNIQUE INDEX auth_chains_by_place ON auth_chains (chain_nid, place);

CREATE TABLE auth_edges (
    auth_nid  BIGINT NOT NULL,
    event_nid BIGINT NOT NULL,
    PRIMARY KEY (auth_nid, event_nid)
);
COMMENT ON TABLE auth_edges IS 'which state events are based on an event, but for those that another of their auth events implies';
COMMENT ON COLUMN auth_edges.auth_nid IS 'the auth event';
COMMENT ON COLUMN auth_edges.event_nid IS 'the event that has it among its auth events';

-- Events of before: each a chain of its own, which makes looking longer and its outcome no different.
INSERT INTO auth_chains (event_nid, chain_nid, place, since)
SELECT event_nid, event_nid, 1, position
FROM   events
WHERE  state_key_nid IS NOT NULL
  AND  admission <> 3;

INSERT INTO auth_edges (auth_nid, event_nid)
SELECT DISTINCT auth.nid, events.event_nid
FROM   events
CROSS  JOIN LATERAL UNNEST(events.auth_nids) AS auth (nid)
WHERE  events.state_key_nid IS NOT NULL
  AND  events.admission <> 3;
