-- Since when a server does not answer: what waits for one that will hardly come back is dropped one day.

ALTER TABLE destinations ADD COLUMN failing_since BIGINT;
COMMENT ON COLUMN destinations.failing_since IS 'when the first of these failures was, in milliseconds since 1970; NULL: there are none, or it is not known';
