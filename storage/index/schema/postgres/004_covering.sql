-- Counts and existence are answered from an index alone: with millions of instances their rows are not in any cache.
DROP INDEX study_by_rank;
CREATE INDEX study_by_rank ON study (tenant, rank, study_uid) INCLUDE (live, appeared, patient);
DROP INDEX series_by_modality;
CREATE INDEX series_by_modality ON series (modality, study) INCLUDE (live);
DROP INDEX series_by_rank;
CREATE INDEX series_by_rank ON series (study, rank, series_uid) INCLUDE (live);
DROP INDEX instance_by_change;
CREATE INDEX instance_by_change ON instance (series, change) INCLUDE (current_version);
DROP INDEX study_by_patient_name;
CREATE INDEX study_by_patient_name ON study (tenant, patient_name) INCLUDE (patient_name_i, patient_name_p, live);

-- Viewers search descriptions by a part of them.
CREATE INDEX study_by_description ON study (tenant, study_description) WHERE study_description IS NOT NULL;
CREATE INDEX study_within_description ON study USING gin (study_description public.gin_trgm_ops);
