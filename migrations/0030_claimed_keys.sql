-- What was claimed long ago is looked for every minute.

CREATE INDEX one_time_keys_claimed ON one_time_keys (claimed) WHERE claimed IS NOT NULL;
