-- State, as blocks shared by snapshots. See core::state for the packed forms.

CREATE TABLE state_blocks (
    block_nid BIGINT PRIMARY KEY CHECK (block_nid > 0),
    room_nid  BIGINT NOT NULL,
    hash      BYTEA NOT NULL,
    entries   BYTEA NOT NULL
);
COMMENT ON COLUMN state_blocks.block_nid IS 'NID of the block';
COMMENT ON COLUMN state_blocks.room_nid IS 'the room whose state it is part of';
COMMENT ON COLUMN state_blocks.hash IS 'SHA-256 of room and entries: the same block is stored once';
COMMENT ON COLUMN state_blocks.entries IS 'sorted (type, state key, event) NIDs, packed';
CREATE UNIQUE INDEX state_blocks_by_hash ON state_blocks (hash);

CREATE TABLE state_snapshots (
    snapshot_nid BIGINT PRIMARY KEY CHECK (snapshot_nid > 0),
    room_nid     BIGINT NOT NULL,
    hash         BYTEA NOT NULL,
    blocks       BYTEA NOT NULL
);
COMMENT ON COLUMN state_snapshots.snapshot_nid IS 'NID of the snapshot';
COMMENT ON COLUMN state_snapshots.room_nid IS 'the room whose state it is';
COMMENT ON COLUMN state_snapshots.hash IS 'SHA-256 of room and blocks: the same snapshot is stored once';
COMMENT ON COLUMN state_snapshots.blocks IS 'at most 64 block NIDs, later blocks win, packed';
CREATE UNIQUE INDEX state_snapshots_by_hash ON state_snapshots (hash);
