-- Name of Physicians Reading Study, one row a value.
CREATE TABLE reading_physician (
    study INTEGER NOT NULL REFERENCES study,
    item  INTEGER NOT NULL,
    reading_physician_name TEXT, reading_physician_name_i TEXT, reading_physician_name_p TEXT,
    PRIMARY KEY (study, item)
) WITHOUT ROWID;
CREATE INDEX reading_physician_by_name ON reading_physician (reading_physician_name);
CREATE INDEX reading_physician_by_name_i ON reading_physician (reading_physician_name_i)
    WHERE reading_physician_name_i IS NOT NULL;
CREATE INDEX reading_physician_by_name_p ON reading_physician (reading_physician_name_p)
    WHERE reading_physician_name_p IS NOT NULL;

-- Source Application Entity Title of the object: '' where it has none, NULL where nobody has looked yet.
ALTER TABLE version ADD COLUMN source_ae_title TEXT;
CREATE INDEX version_without_source ON version (id) WHERE source_ae_title IS NULL;

-- The different sources of a series' versions, those whose objects are gone left out; '' while that of one is not known.
CREATE TABLE series_source (
    series INTEGER NOT NULL REFERENCES series,
    source_ae_title TEXT NOT NULL,
    PRIMARY KEY (series, source_ae_title)
) WITHOUT ROWID;
INSERT INTO series_source (series, source_ae_title) SELECT id, '' FROM series;

-- What happened to an instance goes with it, what happened to a version of it with that.
CREATE INDEX change_by_instance ON change (instance) WHERE instance IS NOT NULL;

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('reading_physician', 'reading_physician', '100000 1 1'),
    ('reading_physician', 'reading_physician_by_name', '100000 500'),
    ('reading_physician', 'reading_physician_by_name_i', '10000 50'),
    ('reading_physician', 'reading_physician_by_name_p', '10000 50'),
    ('series_source', 'series_source', '300000 1 1'),
    ('version', 'version_without_source', '100 1'),
    ('change', 'change_by_instance', '10000000 1');
