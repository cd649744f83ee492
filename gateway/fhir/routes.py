"""All routes of the FHIR face (FHIR R4 "RESTful API", https://hl7.org/fhir/R4/http.html)."""

from __future__ import annotations

from dataclasses import replace

from gateway.access.actions import Action
from gateway.fhir import api, audit_events, endpoints, imaging_studies, outcome, patients, statement
from gateway.fhir.answers import PREFIX, SEARCH
from gateway.http.route import Route

_SEEN = {"ImagingStudy": imaging_studies, "Patient": patients, endpoints.KIND: endpoints}


def routes() -> list[Route]:
    """What the archive shows, through views too; the audit trail; what is public and tells nothing of the archive."""
    found = [
        Route("GET", f"{PREFIX}/metadata", statement.metadata, None, for_views=True),
        Route("GET", f"{PREFIX}/.well-known/smart-configuration", statement.smart_configuration, None, for_views=True),
    ]
    for kind, handlers in _SEEN.items():
        found += [
            Route("GET", f"{PREFIX}/{kind}", handlers.search, Action.SEARCH, for_views=True),
            Route("POST", f"{PREFIX}/{kind}/{SEARCH}", handlers.search, Action.SEARCH, for_views=True),
            Route("GET", f"{PREFIX}/{kind}/{{id}}", handlers.read, Action.READ, for_views=True),
        ]
    trail = f"{PREFIX}/{audit_events.KIND}"
    found += [
        Route("GET", trail, audit_events.search, Action.AUDIT_READ),
        Route("POST", f"{trail}/{SEARCH}", audit_events.search, Action.AUDIT_READ),
        Route("GET", f"{trail}/{{id}}", audit_events.read, Action.AUDIT_READ),
    ]
    return [replace(each, refusal=outcome.told) for each in [*found, *api.routes(found)]]
