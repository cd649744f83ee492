-- Name of Physicians Reading Study, one row a value.
CREATE TABLE reading_physician (
    study bigint NOT NULL REFERENCES study,
    item  bigint NOT NULL,
    reading_physician_name text COLLATE "C", reading_physician_name_i text COLLATE "C",
    reading_physician_name_p text COLLATE "C",
    PRIMARY KEY (study, item)
);
CREATE INDEX reading_physician_by_name ON reading_physician (reading_physician_name);
CREATE INDEX reading_physician_by_name_i ON reading_physician (reading_physician_name_i)
    WHERE reading_physician_name_i IS NOT NULL;
CREATE INDEX reading_physician_by_name_p ON reading_physician (reading_physician_name_p)
    WHERE reading_physician_name_p IS NOT NULL;

-- Source Application Entity Title of the object: '' where it has none, NULL where nobody has looked yet.
ALTER TABLE version ADD COLUMN source_ae_title text COLLATE "C";
CREATE INDEX version_without_source ON version (id) WHERE source_ae_title IS NULL;

-- The different sources of a series' versions, those whose objects are gone left out; '' while that of one is not known.
CREATE TABLE series_source (
    series bigint NOT NULL REFERENCES series,
    source_ae_title text COLLATE "C" NOT NULL,
    PRIMARY KEY (series, source_ae_title)
);
INSERT INTO series_source (series, source_ae_title) SELECT id, '' FROM series;

-- What happened to an instance goes with it, what happened to a version of it with that.
CREATE INDEX change_by_instance ON change (instance) WHERE instance IS NOT NULL;

-- One or two letters within a value are looked for in these alone, of which the ids are wanted.
DROP INDEX study_by_patient_name, study_by_patient_name_i, study_by_patient_name_p, study_by_patient_id,
    study_by_accession_number, study_by_description;
CREATE INDEX study_by_patient_name ON study (tenant, patient_name)
    INCLUDE (patient_name_i, patient_name_p, live, id);
CREATE INDEX study_by_patient_name_i ON study (tenant, patient_name_i) INCLUDE (id) WHERE patient_name_i IS NOT NULL;
CREATE INDEX study_by_patient_name_p ON study (tenant, patient_name_p) INCLUDE (id) WHERE patient_name_p IS NOT NULL;
CREATE INDEX study_by_patient_id ON study (tenant, patient_id) INCLUDE (live, id);
CREATE INDEX study_by_accession_number ON study (tenant, accession_number) INCLUDE (live, id);
CREATE INDEX study_by_description ON study (tenant, study_description) INCLUDE (live, id)
    WHERE study_description IS NOT NULL;

-- Whether a study has another word as well is told by the index alone.
DROP INDEX name_key_by_study;
CREATE INDEX name_key_by_study ON name_key (study, attribute, key);
