-- With which program a device was last seen, for users who look after their sessions and for administrators.

ALTER TABLE devices ADD COLUMN last_seen_agent TEXT;
COMMENT ON COLUMN devices.last_seen_agent IS 'what the client said it was in the request that was last seen, cut short; NULL: nothing, or it was long ago';
