-- Where users' devices want to be told of what notifies them.

CREATE TABLE pushers (
    user_nid  INTEGER NOT NULL,
    app_id    TEXT NOT NULL,
    pushkey   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    pusher    TEXT NOT NULL,
    PRIMARY KEY (user_nid, app_id, pushkey),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
COMMENT ON TABLE pushers IS 'where users'' devices want to be told of what notifies them';
COMMENT ON COLUMN pushers.user_nid IS 'whose it is';
COMMENT ON COLUMN pushers.app_id IS 'the application that it is for';
COMMENT ON COLUMN pushers.pushkey IS 'what names the device to its push gateway';
COMMENT ON COLUMN pushers.device_id IS 'the device that set it; it goes when the device goes';
COMMENT ON COLUMN pushers.pusher IS 'JSON object as clients list it, with kind and data';
CREATE INDEX pushers_by_key ON pushers (app_id, pushkey);
CREATE INDEX pushers_by_device ON pushers (user_nid, device_id);
