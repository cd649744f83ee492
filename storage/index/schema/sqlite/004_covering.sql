-- Counts and existence are answered from an index alone: with millions of instances their rows are not in any cache.
DROP INDEX series_by_modality;
CREATE INDEX series_by_modality ON series (modality, study, live);
DROP INDEX series_by_rank;
CREATE INDEX series_by_rank ON series (study, rank, series_uid, live);
DROP INDEX instance_by_change;
CREATE INDEX instance_by_change ON instance (series, change, current_version);

DELETE FROM sqlite_stat1 WHERE idx IN ('series_by_modality', 'series_by_rank', 'instance_by_change');
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('series', 'series_by_modality', '300000 60000 2 2'),
    ('series', 'series_by_rank', '300000 3 1 1 1'),
    ('instance', 'instance_by_change', '10000000 30 1 1');

-- Names and descriptions are searched by parts of them, which is done within these.
DROP INDEX study_by_patient_name;
CREATE INDEX study_by_patient_name ON study (tenant, patient_name, patient_name_i, patient_name_p, live);
CREATE INDEX study_by_description ON study (tenant, study_description, live) WHERE study_description IS NOT NULL;
DELETE FROM sqlite_stat1 WHERE idx = 'study_by_patient_name';
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('study', 'study_by_patient_name', '100000 100000 3 3 3 3'),
    ('study', 'study_by_description', '90000 90000 20 20');
