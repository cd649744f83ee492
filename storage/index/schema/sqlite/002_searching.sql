-- Searching: an order that can be entered anywhere, names by their sound, items of requests, moments in UTC, snapshots.
-- What the new columns hold comes from the stored metadata; storage/index/refilling.py fills them for older rows.

-- rank sorts ascending what is listed newest first, absent values last; appeared is the change that made it live.
ALTER TABLE study ADD COLUMN rank TEXT NOT NULL DEFAULT '';
ALTER TABLE study ADD COLUMN appeared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE study ADD COLUMN study_instant TEXT;
DROP INDEX study_by_date;
CREATE INDEX study_by_rank ON study (tenant, rank, study_uid, live, appeared, patient);
CREATE INDEX patient_by_id ON patient (tenant, patient_id, issuer, of_study);
CREATE INDEX study_by_instant ON study (tenant, study_instant) WHERE study_instant IS NOT NULL;

ALTER TABLE series ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN appeared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN series_instant TEXT;
ALTER TABLE series ADD COLUMN pps_start_instant TEXT;
ALTER TABLE series ADD COLUMN manufacturer TEXT;
ALTER TABLE series ADD COLUMN manufacturer_model_name TEXT;
ALTER TABLE series ADD COLUMN protocol_name TEXT;
ALTER TABLE series ADD COLUMN frame_of_reference_uid TEXT;
ALTER TABLE series DROP COLUMN scheduled_step_id;
ALTER TABLE series DROP COLUMN requested_procedure_id;
CREATE INDEX series_by_rank ON series (study, rank, series_uid);
CREATE INDEX series_by_frame_of_reference ON series (frame_of_reference_uid) WHERE frame_of_reference_uid IS NOT NULL;

-- blank_patient: whether the current version has no Patient ID; a study speaks through one that has.
ALTER TABLE instance ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN appeared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN blank_patient INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN acquisition_number INTEGER;
ALTER TABLE instance ADD COLUMN acquisition_date TEXT;
ALTER TABLE instance ADD COLUMN acquisition_time TEXT;
ALTER TABLE instance ADD COLUMN acquisition_datetime TEXT;
ALTER TABLE instance ADD COLUMN acquisition_instant TEXT;
ALTER TABLE instance ADD COLUMN content_instant TEXT;
DROP INDEX instance_by_series;
CREATE INDEX instance_by_series ON instance (series, rank, sop_uid);

-- Items of Request Attributes Sequence, which are matched item by item.
CREATE TABLE request_item (
    series INTEGER NOT NULL REFERENCES series,
    item   INTEGER NOT NULL,
    scheduled_step_id TEXT,
    requested_procedure_id TEXT,
    PRIMARY KEY (series, item)
) WITHOUT ROWID;
CREATE INDEX request_item_by_step ON request_item (scheduled_step_id);
CREATE INDEX request_item_by_procedure ON request_item (requested_procedure_id);

-- Keys of fuzzy matching (storage/dicom/names.py) of the studies' names.
CREATE TABLE name_key (
    attribute TEXT NOT NULL,
    key       TEXT NOT NULL,
    study     INTEGER NOT NULL REFERENCES study,
    PRIMARY KEY (attribute, key, study)
) WITHOUT ROWID;
CREATE INDEX name_key_by_study ON name_key (study);


-- What an archive looks like, so that the planner looks patients up rather than walk through all studies in their order:
-- without statistics it takes a tenant for a handful of rows. Fixed rather than measured: plans do not change by night.
ANALYZE;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('patient', 'sqlite_autoindex_patient_1', '60000 60000 60000 1 1'),
    ('patient', 'patient_by_id', '60000 60000 1 1 1'),
    ('study', 'sqlite_autoindex_study_1', '100000 100000 1'),
    ('study', 'study_by_rank', '100000 100000 1 1 1 1 1'),
    ('study', 'study_by_instant', '50000 50000 1'),
    ('study', 'study_by_patient', '100000 3'),
    ('study', 'study_by_patient_id', '100000 100000 3'),
    ('study', 'study_by_patient_name', '100000 100000 3'),
    ('study', 'study_by_patient_name_i', '10000 10000 3'),
    ('study', 'study_by_patient_name_p', '10000 10000 3'),
    ('study', 'study_by_accession_number', '100000 100000 1'),
    ('series', 'sqlite_autoindex_series_1', '300000 3 1'),
    ('series', 'series_by_uid', '300000 1'),
    ('series', 'series_by_modality', '300000 3 2'),
    ('series', 'series_by_rank', '300000 3 1 1'),
    ('series', 'series_by_frame_of_reference', '200000 2'),
    ('instance', 'sqlite_autoindex_instance_1', '10000000 10000000 1'),
    ('instance', 'instance_by_study', '10000000 100 1'),
    ('instance', 'instance_by_series', '10000000 30 1 1'),
    ('instance', 'instance_by_change', '10000000 30 1'),
    ('version', 'sqlite_autoindex_version_1', '10000000 1'),
    ('version', 'version_by_instance', '10000000 1'),
    ('document', NULL, '10000000'),
    ('name_key', 'name_key', '1500000 750000 40 1'),
    ('name_key', 'name_key_by_study', '1500000 15'),
    ('request_item', 'request_item', '300000 1 1'),
    ('request_item', 'request_item_by_step', '300000 2'),
    ('request_item', 'request_item_by_procedure', '300000 2');
