"""The FHIR R4 face: studies, patients and endpoints as the archive shows them, and the audit trail."""
