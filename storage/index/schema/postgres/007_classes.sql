-- The storage class that a study's objects were moved into, up to which version, and the study's last change then. No
-- reference: an earlier release may work on this, and would remove studies without knowing of it.
CREATE TABLE study_class (
    study         bigint PRIMARY KEY,
    storage_class text COLLATE "C" NOT NULL,
    through       text COLLATE "C" NOT NULL,
    change        bigint NOT NULL
);
