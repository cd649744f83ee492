-- What each tenant has stored, so that a quota costs no count. Written once in a transaction, by the one that writes.
CREATE TABLE tenant_usage (
    tenant  text COLLATE "C" PRIMARY KEY,
    objects bigint NOT NULL,
    bytes   bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO tenant_usage (tenant, objects, bytes)
    SELECT i.tenant, count(*), sum(v.size) FROM version v JOIN instance i ON i.id = v.instance
    WHERE coalesce(v.purge, '') <> 'done' GROUP BY i.tenant;

-- Legal holds: of a study, or of a patient where study_uid is empty. released is the record that ended it.
CREATE TABLE hold (
    record     text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    study_uid  text COLLATE "C" NOT NULL,
    issuer     text COLLATE "C" NOT NULL,
    patient_id text COLLATE "C" NOT NULL,
    reason     text COLLATE "C" NOT NULL,
    released   text COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX hold_in_force ON hold (tenant, study_uid, patient_id) WHERE released = '';

-- SQLite does not look at references either. Here each row of instance or series that goes would have the whole change
-- feed read, which has no index by them.
ALTER TABLE change DROP CONSTRAINT change_instance_fkey, DROP CONSTRAINT change_series_fkey;
