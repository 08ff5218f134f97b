-- What the fence holds since each decision chooses its own value.
COMMENT ON COLUMN rooms.version IS 'the fence: each decision advances it from the value that the decision was built on to one of its own, whose upper half is one more and whose lower half is random';
