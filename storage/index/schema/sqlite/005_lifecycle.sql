-- What each tenant has stored, so that a quota costs no count. Written once in a transaction, by the one that writes.
CREATE TABLE tenant_usage (
    tenant  TEXT PRIMARY KEY,
    objects INTEGER NOT NULL,
    bytes   INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tenant_usage (tenant, objects, bytes)
    SELECT i.tenant, count(*), sum(v.size) FROM version v JOIN instance i ON i.id = v.instance
    WHERE coalesce(v.purge, '') <> 'done' GROUP BY i.tenant;

-- Legal holds: of a study, or of a patient where study_uid is empty. released is the record that ended it.
CREATE TABLE hold (
    record     TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    study_uid  TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    reason     TEXT NOT NULL,
    released   TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX hold_in_force ON hold (tenant, study_uid, patient_id) WHERE released = '';
