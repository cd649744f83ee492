-- Searching: an order that can be entered anywhere, names by their sound, items of requests, moments in UTC, snapshots.
-- What the new columns hold comes from the stored metadata; storage/index/refilling.py fills them for older rows.

-- rank sorts ascending what is listed newest first, absent values last; appeared is the change that made it live.
ALTER TABLE study ADD COLUMN rank TEXT NOT NULL DEFAULT '';
ALTER TABLE study ADD COLUMN appeared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE study ADD COLUMN study_instant TEXT;
DROP INDEX study_by_date;
CREATE INDEX study_by_rank ON study (tenant, rank, study_uid, live, appeared);
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

