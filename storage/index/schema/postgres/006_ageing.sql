-- Which studies have been here for long: the version that a live study speaks through tells when it began to arrive.
CREATE INDEX study_by_arrival ON study (tenant, source_version) WHERE live;
