-- The media repository: what users have uploaded, what was fetched from other servers, and smaller copies of both.
-- The bytes are files in the data directory; here is what is known of them.

CREATE TABLE local_media (
    media_id       TEXT PRIMARY KEY,
    user_nid       INTEGER NOT NULL REFERENCES users,
    created        BIGINT NOT NULL,
    unused_expires BIGINT,
    file_id        TEXT UNIQUE,
    content_type   TEXT,
    file_name      TEXT,
    size           BIGINT,
    needs_token    BOOLEAN NOT NULL,
    quarantined_by TEXT,
    CHECK (file_id IS NULL OR (content_type IS NOT NULL AND size IS NOT NULL)),
    CHECK (file_id IS NOT NULL OR unused_expires IS NOT NULL)
);
COMMENT ON TABLE local_media IS 'media of this server: uploaded, or announced and not uploaded yet';
COMMENT ON COLUMN local_media.media_id IS 'what follows the server name in its mxc:// address';
COMMENT ON COLUMN local_media.user_nid IS 'who uploads it';
COMMENT ON COLUMN local_media.created IS 'when its address was given out, milliseconds since 1970';
COMMENT ON COLUMN local_media.unused_expires IS 'until when an upload has to begin; NULL: the address was given out with the upload';
COMMENT ON COLUMN local_media.file_id IS 'name of its file; NULL: not uploaded yet';
COMMENT ON COLUMN local_media.content_type IS 'what the uploader says it is';
COMMENT ON COLUMN local_media.file_name IS 'what the uploader calls it';
COMMENT ON COLUMN local_media.size IS 'bytes';
COMMENT ON COLUMN local_media.needs_token IS 'only who is logged in may download it: unauthenticated downloads were frozen before';
COMMENT ON COLUMN local_media.quarantined_by IS 'the administrator who took it out of sight; NULL: nobody did';
CREATE INDEX local_media_by_user ON local_media (user_nid);
CREATE INDEX local_media_unused ON local_media (unused_expires) WHERE file_id IS NULL;

CREATE TABLE remote_media (
    server_name    TEXT NOT NULL,
    media_id       TEXT NOT NULL,
    file_id        TEXT UNIQUE,
    content_type   TEXT,
    file_name      TEXT,
    size           BIGINT,
    fetched        BIGINT,
    last_access    BIGINT,
    needs_token    BOOLEAN NOT NULL,
    quarantined_by TEXT,
    PRIMARY KEY (server_name, media_id),
    CHECK (file_id IS NULL OR (content_type IS NOT NULL AND size IS NOT NULL
           AND fetched IS NOT NULL AND last_access IS NOT NULL)),
    CHECK (file_id IS NOT NULL OR quarantined_by IS NOT NULL)
);
COMMENT ON TABLE remote_media IS 'copies of media of other servers, and what of theirs is quarantined here';
COMMENT ON COLUMN remote_media.server_name IS 'the server that has it';
COMMENT ON COLUMN remote_media.media_id IS 'its id there';
COMMENT ON COLUMN remote_media.file_id IS 'name of our file; NULL: there is no copy, only a quarantine';
COMMENT ON COLUMN remote_media.content_type IS 'what its server says it is';
COMMENT ON COLUMN remote_media.file_name IS 'what its server calls it';
COMMENT ON COLUMN remote_media.size IS 'bytes';
COMMENT ON COLUMN remote_media.fetched IS 'when it was fetched, milliseconds since 1970';
COMMENT ON COLUMN remote_media.last_access IS 'when it was last asked for, milliseconds since 1970, up to an hour late';
COMMENT ON COLUMN remote_media.needs_token IS 'only who is logged in may download it: unauthenticated downloads were frozen before';
COMMENT ON COLUMN remote_media.quarantined_by IS 'the administrator who took it out of sight; NULL: nobody did';
CREATE INDEX remote_media_by_access ON remote_media (last_access) WHERE file_id IS NOT NULL;

CREATE TABLE thumbnails (
    source_file_id TEXT NOT NULL,
    width          INTEGER NOT NULL,
    height         INTEGER NOT NULL,
    is_cropped     BOOLEAN NOT NULL,
    file_id        TEXT NOT NULL UNIQUE,
    content_type   TEXT NOT NULL,
    size           BIGINT NOT NULL,
    PRIMARY KEY (source_file_id, width, height, is_cropped)
);
COMMENT ON TABLE thumbnails IS 'smaller copies of images';
COMMENT ON COLUMN thumbnails.source_file_id IS 'file of the image: local_media.file_id or remote_media.file_id';
COMMENT ON COLUMN thumbnails.width IS 'width that it was made for: the copy is at least as wide';
COMMENT ON COLUMN thumbnails.height IS 'height that it was made for: the copy is at least as high';
COMMENT ON COLUMN thumbnails.is_cropped IS 'it has exactly this size; otherwise the proportions of the image';
COMMENT ON COLUMN thumbnails.file_id IS 'name of its file';
COMMENT ON COLUMN thumbnails.content_type IS 'its format';
COMMENT ON COLUMN thumbnails.size IS 'bytes';
