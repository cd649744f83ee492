-- A view asks for each study that it looks at what of it is withheld; the list of all may be long.
CREATE INDEX quarantine_by_study ON quarantine (tenant, study_uid);
