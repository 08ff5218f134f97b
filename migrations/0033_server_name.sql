-- Whose database it is: names in it are for good, so no server of another name may use it.
CREATE TABLE server_name (
    "only" BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK ("only"),
    name   TEXT NOT NULL
);
COMMENT ON TABLE server_name IS 'the server that this database belongs to; no row before its first start';
COMMENT ON COLUMN server_name."only" IS 'there is one row';
COMMENT ON COLUMN server_name.name IS 'its name, as in user ids';
