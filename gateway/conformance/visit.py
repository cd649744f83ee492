"""What a visit to a server has at hand: the client, the study that was made, and an instance that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.conformance import parts
from gateway.conformance.claims import Broken, NotAsked
from gateway.conformance.client import DICOM, JSON, Answer, Client, NotReached
from gateway.conformance.material import Made, written

_STUDIES, _SERIES = 5, 5
"""So many are looked through for an instance with pixels."""
_REFUSED = (401, 403)
_GONE = (200, 202, 204, 404, 410)


@dataclass(frozen=True, slots=True)
class Found:
    """An instance at the server, by the UIDs of where it is, and its metadata."""

    study_uid: str
    series_uid: str
    sop_uid: str
    metadata: dict[str, Any]

    @property
    def study(self) -> str:
        """The path of its study."""
        return f"/studies/{self.study_uid}"

    @property
    def series(self) -> str:
        """The path of its series."""
        return f"{self.study}/series/{self.series_uid}"

    @property
    def instance(self) -> str:
        """Its path."""
        return f"{self.series}/instances/{self.sop_uid}"

    def value(self, tag: str) -> str:
        """The first value of an attribute of its metadata as text; empty without one."""
        return first(self.metadata, tag)


@dataclass(slots=True)
class Visit:
    """``made`` is the kit's study where it may store; ``stored`` says whether it is there."""

    client: Client
    made: Made | None = None
    stored: bool = False
    _found: Found | None = None

    def prepare(self) -> None:
        """See that the server answers us, and name what must not be shown."""
        answer = self.client.get("/studies", JSON, [("limit", "1")])
        if answer.status in _REFUSED:
            raise NotReached(
                f"{self.client.root}: {answer.status}: it wants to know who asks",
                "--token-file FILE has a bearer token, --header 'NAME: VALUE' is sent as it is given",
            )
        if answer.status == 404:
            raise NotReached(
                f"{self.client.root}: there is no /studies below it", "give the service root, as .../dicom-web"
            )
        if self.made is not None:
            self._name_made(self.made)

    def store(self, *files: bytes, path: str = "/studies", accept: str = JSON) -> Answer:
        """Store Part 10 files."""
        headers, body = parts.joined(DICOM, [({"Content-Type": DICOM}, each) for each in files])
        return self.client.ask("POST", path, accept, headers=headers, body=body)

    def leave(self) -> bool:
        """Delete the kit's study if it is still there; whether it is gone."""
        if self.made is not None and self.stored:
            answer = self.client.ask("DELETE", f"/studies/{self.made.study_uid}", JSON)
            self.stored = answer.status not in _GONE
        return not self.stored

    def own(self) -> Made:
        """The kit's study, which is there."""
        if self.made is None:
            raise NotAsked("needs instances of the kit; --store allows to store them")
        if not self.stored:
            raise NotAsked("the kit's study could not be stored")
        return self.made

    def place(self, number: int = 0) -> Found:
        """The first, or second, of the kit's plain instances."""
        return of(self.own().plain[number])

    @property
    def found(self) -> Found:
        """An instance with pixels where there is one: the kit's, else what the server has."""
        if self._found is None:
            self._found = self._kits() if self.stored else self._look()
        return self._found

    def image(self) -> Found:
        """An instance with frames."""
        if not self.found.value("00280010"):
            raise NotAsked("no instance with pixels was found here; --store brings some")
        return self.found

    def _kits(self) -> Found:
        kit = self.place()
        return Found(kit.study_uid, kit.series_uid, kit.sop_uid, self._metadata(kit))

    def _look(self) -> Found:
        some: Found | None = None
        for study in self.client.search("/studies", limit=_STUDIES):
            study_uid = first(study, "0020000D")
            for series in self.client.search(f"/studies/{study_uid}/series", limit=_SERIES):
                series_uid = first(series, "0020000E")
                for each in self.client.search(f"/studies/{study_uid}/series/{series_uid}/instances", limit=1):
                    there = Found(study_uid, series_uid, first(each, "00080018"), {})
                    self._name(there)
                    some = Found(there.study_uid, there.series_uid, there.sop_uid, self._metadata(there))
                    if some.value("00280010"):
                        return some
        if some is None:
            raise NotAsked("the server has no study that is shown to us; --store brings one")
        return some

    def _metadata(self, there: Found) -> dict[str, Any]:
        found = self.client.get(f"{there.instance}/metadata", JSON).results()
        if len(found) != 1:
            raise Broken("the metadata of an instance are one object")
        return found[0]

    def _name(self, there: Found) -> None:
        for value, name in ((there.study_uid, "study"), (there.series_uid, "series"), (there.sop_uid, "instance")):
            self.client.name(value, name)

    def _name_made(self, made: Made) -> None:
        self._name(of(made.plain[0]))
        for name, each in (("second", made.plain[1]), ("frames", made.frames), ("compressed", made.compressed)):
            self.client.name(str(each.SOPInstanceUID), f"{name} instance")
            self.client.name(str(each.SeriesInstanceUID), "series" if name == "second" else f"{name} series")


def of(made: Any) -> Found:
    """Where an instance of the kit is."""
    uids = (str(made.StudyInstanceUID), str(made.SeriesInstanceUID), str(made.SOPInstanceUID))
    return Found(*uids, made.to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=lambda _: "pixels"))


def files(made: Made) -> list[bytes]:
    """The uncompressed instances as files."""
    return [written(each) for each in (*made.plain, made.frames)]


def first(found: dict[str, Any], tag: str) -> str:
    """The first value of an attribute as text; empty without one."""
    values = found.get(tag, {}).get("Value") or [""]
    value = values[0]
    if isinstance(value, dict):
        return str(value.get("Alphabetic", ""))
    return "" if value is None else str(value)
