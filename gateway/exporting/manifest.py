"""The manifest of an export: what was exported by which profile, and what was not, in pseudonyms only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BufferedRandom

from gateway.deid import markers
from gateway.exporting.items import Item, Put
from gateway.viewing.definition import Definition


class Manifest:
    """A JSON document, one line for each instance, written while the export runs.

    It tells no time, so that the same export gives the same bytes.
    """

    def __init__(self, file: BufferedRandom, definition: Definition) -> None:
        self._file = file
        self._first = True
        head = {
            "view": definition.name,
            "view_version": definition.version,
            "profile_version": definition.profile.version,
            "options": sorted(option.value for option in definition.profile.options),
            "engine": markers.method(definition.profile),
        }
        self._write(json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "instances": [')

    def add(self, item: Item, put: Put) -> None:
        """An instance that the target has."""
        located = item.located
        found = {
            **({"path": put.path} if put.path else {}),
            "size": located.size,
            "sha256": located.sha256,
            "PatientID": item.patient_id,
            "StudyInstanceUID": located.key.study_uid,
            "SeriesInstanceUID": located.key.series_uid,
            "SOPInstanceUID": located.key.sop_uid,
            "SOPClassUID": located.sop_class_uid,
            "TransferSyntaxUID": located.transfer_syntax_uid,
        }
        self._write(("" if self._first else ",") + "\n    " + json.dumps(found))
        self._first = False

    def end(self, withheld: Mapping[str, int], failed: Mapping[str, int]) -> None:
        """Nothing more comes: how many instances are not in the export, by reasons."""
        tail = {"withheld": _counted(withheld), "failed": _counted(failed)}
        self._write("\n  ],\n" + json.dumps(tail, indent=2).removeprefix("{\n") + "\n")

    @property
    def document(self) -> BufferedRandom:
        """The whole document, from its beginning."""
        self._file.seek(0)
        return self._file

    def _write(self, text: str) -> None:
        self._file.write(text.encode("ascii"))


def _counted(reasons: Mapping[str, int]) -> list[dict[str, object]]:
    return [{"reason": reason, "instances": reasons[reason]} for reason in sorted(reasons)]
