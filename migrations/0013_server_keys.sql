-- The keys of other servers, with which they sign requests and events.

CREATE TABLE server_keys (
    server_name           TEXT NOT NULL,
    key_id                TEXT NOT NULL,
    public_key            BYTEA NOT NULL,
    valid_until_ms        BIGINT NOT NULL,
    is_current            BOOLEAN NOT NULL,
    answer_valid_until_ms BIGINT NOT NULL,
    answer                TEXT NOT NULL,
    PRIMARY KEY (server_name, key_id)
);
COMMENT ON TABLE server_keys IS 'keys of other servers, as they or notaries say';
COMMENT ON COLUMN server_keys.server_name IS 'whose key it is';
COMMENT ON COLUMN server_keys.key_id IS 'algorithm and version, such as ed25519:abc';
COMMENT ON COLUMN server_keys.public_key IS 'the public key itself';
COMMENT ON COLUMN server_keys.valid_until_ms IS 'what was signed later than this, in milliseconds since 1970, is not proved by the key';
COMMENT ON COLUMN server_keys.is_current IS 'whether the server still signs requests with it';
COMMENT ON COLUMN server_keys.answer_valid_until_ms IS 'until when the answer that named the key says that it is valid: of two answers the later wins';
COMMENT ON COLUMN server_keys.answer IS 'the signed JSON object that named the key, to be passed on to servers that ask for it';
