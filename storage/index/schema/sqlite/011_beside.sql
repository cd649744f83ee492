-- The version that a recompressed one was made of and stands beside; NULL for what arrived. One at most stands beside each.
ALTER TABLE version ADD COLUMN beside TEXT;
CREATE INDEX version_beside ON version (beside) WHERE beside IS NOT NULL;

-- Recompression: through which version it has come, by which rules, and whose turn it is until when. Made anew at need.
CREATE TABLE recompression (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    rules   TEXT NOT NULL,
    through TEXT NOT NULL,
    holder  TEXT NOT NULL,
    until   REAL NOT NULL
);
