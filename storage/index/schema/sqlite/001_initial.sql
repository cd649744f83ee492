-- The first schema. Columns of study, series and instance that hold attributes are those of the attribute registry
-- (storage/dicom/attributes.py); a test keeps the two alike. Attribute columns hold normal forms (storage/dicom/matching.py).

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One number, raised inside every writing transaction: change sequence numbers are handed out in commit order.
CREATE TABLE change_sequence (last INTEGER NOT NULL);
INSERT INTO change_sequence VALUES (0);

-- The surrogate of a patient. A blank Patient ID belongs to its study alone: of_study then holds the study's UID.
CREATE TABLE patient (
    id         INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    of_study   TEXT NOT NULL,
    UNIQUE (tenant, issuer, patient_id, of_study)
);

CREATE TABLE study (
    id             INTEGER PRIMARY KEY,
    tenant         TEXT NOT NULL,
    patient        INTEGER NOT NULL REFERENCES patient,
    live           INTEGER NOT NULL,
    source_version TEXT NOT NULL,
    attributes     BLOB NOT NULL,
    study_uid      TEXT NOT NULL,
    patient_name   TEXT, patient_name_i TEXT, patient_name_p TEXT,
    patient_id     TEXT,
    issuer_of_patient_id TEXT,
    patient_birth_date TEXT,
    patient_sex    TEXT,
    study_date     TEXT,
    study_time     TEXT,
    accession_number TEXT,
    referring_physician_name TEXT, referring_physician_name_i TEXT, referring_physician_name_p TEXT,
    study_description TEXT,
    study_id       TEXT,
    institution_name TEXT,
    UNIQUE (tenant, study_uid)
);
CREATE INDEX study_by_date ON study (tenant, study_date DESC, study_time DESC, study_uid) WHERE live;
CREATE INDEX study_by_patient ON study (patient);
CREATE INDEX study_by_patient_id ON study (tenant, patient_id);
CREATE INDEX study_by_patient_name ON study (tenant, patient_name);
CREATE INDEX study_by_patient_name_i ON study (tenant, patient_name_i) WHERE patient_name_i IS NOT NULL;
CREATE INDEX study_by_patient_name_p ON study (tenant, patient_name_p) WHERE patient_name_p IS NOT NULL;
CREATE INDEX study_by_accession_number ON study (tenant, accession_number);

CREATE TABLE series (
    id             INTEGER PRIMARY KEY,
    study          INTEGER NOT NULL REFERENCES study,
    live           INTEGER NOT NULL,
    source_version TEXT NOT NULL,
    attributes     BLOB NOT NULL,
    series_uid     TEXT NOT NULL,
    modality       TEXT,
    series_description TEXT,
    series_number  INTEGER,
    series_date    TEXT,
    series_time    TEXT,
    pps_start_date TEXT,
    pps_start_time TEXT,
    scheduled_step_id TEXT,
    requested_procedure_id TEXT,
    body_part_examined TEXT,
    laterality     TEXT,
    station_name   TEXT,
    UNIQUE (study, series_uid)
);
CREATE INDEX series_by_uid ON series (series_uid);
CREATE INDEX series_by_modality ON series (study, modality);

-- An instance without a current version is a tombstone. change is the sequence number of its last change.
CREATE TABLE instance (
    id              INTEGER PRIMARY KEY,
    tenant          TEXT NOT NULL,
    study           INTEGER NOT NULL REFERENCES study,
    series          INTEGER NOT NULL REFERENCES series,
    current_version INTEGER REFERENCES version,
    change          INTEGER NOT NULL,
    attributes      BLOB NOT NULL,
    sop_uid         TEXT NOT NULL,
    sop_class_uid   TEXT NOT NULL,
    instance_number INTEGER,
    content_date    TEXT,
    content_time    TEXT,
    UNIQUE (tenant, sop_uid)
);
CREATE INDEX instance_by_study ON instance (study, current_version);
CREATE INDEX instance_by_series ON instance (series, instance_number, sop_uid);
CREATE INDEX instance_by_change ON instance (series, change);

CREATE TABLE version (
    id              INTEGER PRIMARY KEY,
    instance        INTEGER NOT NULL REFERENCES instance,
    version         TEXT NOT NULL UNIQUE,
    role            TEXT NOT NULL,
    object_key      TEXT NOT NULL,
    data_offset     INTEGER NOT NULL,
    size            INTEGER NOT NULL,
    sha256          TEXT NOT NULL,
    canonical       TEXT NOT NULL,
    header          TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    extractor       INTEGER NOT NULL,
    committed       INTEGER NOT NULL,
    deleted         INTEGER,
    deletion_record TEXT
);
CREATE INDEX version_by_instance ON version (instance);

-- What one pass over the instance yielded beyond its attributes: JSON metadata and layout, both deflated.
CREATE TABLE document (
    version  INTEGER PRIMARY KEY REFERENCES version,
    metadata BLOB NOT NULL,
    layout   BLOB NOT NULL
);

CREATE TABLE frame_chunk (
    version INTEGER NOT NULL REFERENCES version,
    chunk   INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (version, chunk)
) WITHOUT ROWID;

-- One consolidated body a series, good for one service root while its generation is the series' own. One only: the
-- root may come from a request's Host header, which must not decide how much is kept.
CREATE TABLE series_metadata (
    series     INTEGER PRIMARY KEY REFERENCES series,
    base       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    body       BLOB NOT NULL
);

CREATE TABLE quarantine (
    version    TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    object_key TEXT NOT NULL,
    study_uid  TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    sop_uid    TEXT NOT NULL,
    reason     TEXT NOT NULL
) WITHOUT ROWID;

-- Records that are archive but not DICOM; the objects in the bucket are the originals.
CREATE TABLE record (
    record TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   BLOB NOT NULL
) WITHOUT ROWID;
