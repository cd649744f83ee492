-- A page of a search for what many studies have, such as two letters within the Patient ID, comes from here alone.
DROP INDEX study_by_rank;
CREATE INDEX study_by_rank ON study (tenant, rank, study_uid, live, appeared, patient, patient_id);
DELETE FROM sqlite_stat1 WHERE idx = 'study_by_rank';
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('study', 'study_by_rank', '100000 100000 1 1 1 1 1 1');

-- Who still has to be told of the result over DIMSE, by its AE title ('' when nobody), when next, and how often it was tried.
ALTER TABLE commitment ADD COLUMN tell TEXT NOT NULL DEFAULT '';
ALTER TABLE commitment ADD COLUMN tell_at REAL NOT NULL DEFAULT 0;
ALTER TABLE commitment ADD COLUMN told_times INTEGER NOT NULL DEFAULT 0;
CREATE INDEX commitment_to_tell ON commitment (tell_at) WHERE tell <> '';
