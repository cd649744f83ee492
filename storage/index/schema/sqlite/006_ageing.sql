-- Which studies have been here for long: the version that a live study speaks through tells when it began to arrive.
CREATE INDEX study_by_arrival ON study (tenant, source_version, study_date, live);
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('study', 'study_by_arrival', '100000 100000 1 1 1');
