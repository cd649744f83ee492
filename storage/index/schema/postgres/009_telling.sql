-- A page of a search for what many studies have, such as two letters within the Patient ID, comes from here alone.
DROP INDEX study_by_rank;
CREATE INDEX study_by_rank ON study (tenant, rank, study_uid) INCLUDE (id, live, appeared, patient, patient_id);

-- Who still has to be told of the result over DIMSE, by its AE title ('' when nobody), when next, and how often it was tried.
ALTER TABLE commitment ADD COLUMN tell text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE commitment ADD COLUMN tell_at double precision NOT NULL DEFAULT 0;
ALTER TABLE commitment ADD COLUMN told_times bigint NOT NULL DEFAULT 0;
CREATE INDEX commitment_to_tell ON commitment (tell_at) WHERE tell <> '';
