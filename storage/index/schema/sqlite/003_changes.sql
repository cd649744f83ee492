-- The change feed: one row for each change of an instance, and one when a study is complete. sequence is the change
-- sequence number, handed out in commit order. detail says why a study is taken for complete.
CREATE TABLE change (
    sequence INTEGER PRIMARY KEY,
    tenant   TEXT NOT NULL,
    at       REAL NOT NULL,
    action   TEXT NOT NULL,
    study    INTEGER NOT NULL REFERENCES study,
    series   INTEGER REFERENCES series,
    instance INTEGER REFERENCES instance,
    version  TEXT,
    detail   TEXT NOT NULL DEFAULT ''
);
CREATE INDEX change_by_study ON change (study, sequence);
INSERT INTO change (sequence, tenant, at, action, study, series, instance, version)
    SELECT v.committed, i.tenant, CAST(strftime('%s', 'now') AS REAL), 'created', i.study, i.series, i.id, v.version
    FROM version v JOIN instance i ON i.id = v.instance;

-- What becomes of a tombstone's object: NULL while the deletion can be undone, 'due' once it cannot, 'done' when the
-- object is gone.
ALTER TABLE version ADD COLUMN purge TEXT;
CREATE INDEX version_by_deletion ON version (deletion_record) WHERE deletion_record IS NOT NULL;

-- Requests for storage commitment over the web; control state of the gateway, not of the archive.
CREATE TABLE commitment (
    tenant      TEXT NOT NULL,
    transaction_uid TEXT NOT NULL,
    principal   TEXT NOT NULL,
    asked_at    REAL NOT NULL,
    request     BLOB NOT NULL,
    result      BLOB,
    PRIMARY KEY (tenant, transaction_uid)
) WITHOUT ROWID;
