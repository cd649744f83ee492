"""The rules of sameness, conflict and deletion, applied to rows inside one writing transaction.

Whatever the order in which processes commit, the rows are a function of the set of objects: roles follow from the
versions' own order, studies and series speak through one of their current versions (``storage.index.voices``). So a
reindex comes to the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.file_meta import NATIVE
from storage.dicom.part10 import EXTRACTOR_VERSION
from storage.index import feed, rows, sources, voices
from storage.index.arrivals import Arrival, Commit, Conflict, Outcome, Role
from storage.index.changes import Action
from storage.index.database import rows_of
from storage.index.questions import Target
from storage.index.standing import Instance, Standing, Study
from storage.index.transaction import Transaction


class _Version(NamedTuple):
    id: int
    version: str
    header: str
    transfer_syntax: str
    canonical: str


def arrange(versions: Sequence[_Version]) -> dict[int, Role]:
    """The role of each version that is not deleted, from the versions alone.

    In their own order: the first is current; a later one with the same header in another transfer syntax is an
    alternative of the current one, any other becomes current in its place.
    """
    roles: dict[int, Role] = {}
    current: _Version | None = None
    for version in sorted(versions, key=lambda each: each.version):
        if current is None:
            roles[version.id], current = Role.CURRENT, version
        elif _is_alternative(current, version.header, version.transfer_syntax):
            roles[version.id] = Role.ALTERNATIVE
        else:
            roles[current.id], roles[version.id], current = Role.SUPERSEDED, Role.CURRENT, version
    return roles


def _is_alternative(current: _Version, header: str, transfer_syntax: str) -> bool:
    """Whether data with a header may be the current data, compressed otherwise.

    Between two native syntaxes the canonical digest sees through the encoding: there, other content is other content.
    """
    native = current.transfer_syntax in NATIVE and transfer_syntax in NATIVE
    return header == current.header and transfer_syntax != current.transfer_syntax and not native


class Writer:
    """Applies changes inside one writing transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.db = transaction.db
        self.voices = voices.Voices(transaction)
        self._standing = Standing(self.db)
        self._unheard: set[tuple[str, int]] = set()
        self._untold: set[int] = set()

    def store_all(self, arrivals: Sequence[Arrival]) -> list[Commit]:
        """Give arrivals their rows in their order, or say why one gets none."""
        if len(arrivals) > 1:
            self._standing.look_up([arrival.key for arrival in arrivals])
        commits = [self._store(arrival) for arrival in arrivals]
        self._standing.forget()
        self.revoice()
        return commits

    def _store(self, arrival: Arrival) -> Commit:
        key, extract = arrival.key, arrival.extract
        patient = rows.patient_key(extract.data_set, key.study_uid)
        study, instance = self._standing.of(key)
        versions: list[_Version] = []
        if arrival.beside and not arrival.deletion_record and (refused := self._stray(arrival)) is not None:
            return refused
        if instance is not None:
            if instance.current is not None and not arrival.deletion_record:
                reason = _misplaced(instance, arrival)
                if reason:
                    return Commit(Outcome.MISPLACED, reason)
            versions = self.live_versions(instance.row)
        if study is not None and not arrival.deletion_record and self._of_another(study, patient):
            return Commit(Outcome.MISPLACED, "the study belongs to another patient")
        if not arrival.deletion_record:
            if any(version.version == arrival.version for version in versions):
                # Two hosts gave the same orphan its row: for the second it is no copy that may be removed.
                return Commit(Outcome.STORED)
            if any(version.canonical == extract.canonical_digest for version in versions):
                return Commit(Outcome.DUPLICATE)
            refused = _refused(arrival, versions)
            if refused is not None:
                return refused
        return self._insert(arrival, study, instance, versions, patient)

    def _stray(self, arrival: Arrival) -> Commit | None:
        """Why a recompressed version gets no row: it is never more than an alternative of what it was made of.

        Without its source it might be what an instance was lost as, and is left; beside a deleted one, or another of
        its kind, it is of no use.
        """
        found = self.db.execute(
            "SELECT v.instance, v.deleted FROM version v JOIN instance i ON i.id = v.instance"
            " WHERE v.version = ? AND i.tenant = ? AND i.sop_uid = ?",
            (arrival.beside, arrival.key.tenant, arrival.key.sop_uid),
        ).fetchone()
        if found is None:
            return Commit(Outcome.REJECTED, "what it was recompressed from is not there")
        instance, deleted = found
        if deleted is not None:
            return Commit(Outcome.DUPLICATE)
        ours = self.db.execute(
            "SELECT version FROM version WHERE beside = ? AND deleted IS NULL", (arrival.beside,)
        ).fetchone()
        if ours is not None:
            return Commit(Outcome.STORED if ours[0] == arrival.version else Outcome.DUPLICATE)
        extract = arrival.extract
        version = _Version(0, arrival.version, extract.header_digest, extract.transfer_syntax_uid, "")
        if arrange([*self.live_versions(instance), version])[0] is not Role.ALTERNATIVE:
            return Commit(Outcome.REJECTED, "it is not what it was recompressed from")
        return None

    def move(self, instance: int, object_key: str) -> None:
        """Let an instance stand where a version of it belongs: an instance that was deleted may come back elsewhere."""
        key, _ = ids.parse_object_key(object_key)
        self._noted(instance)
        self.db.write(
            "UPDATE instance SET (study, series) = (SELECT s.id, e.id FROM study s JOIN series e ON e.study = s.id"
            " WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ?) WHERE id = ?",
            (key.tenant, key.study_uid, key.series_uid, instance),
        )
        self._noted(instance)

    def settle(self, instance: int) -> None:
        """Let a tombstone stand where its latest version did, and speak so, whatever happened in which order."""
        (object_key,) = self.db.execute(
            "SELECT object_key FROM version WHERE instance = ? ORDER BY version DESC LIMIT 1", (instance,)
        ).fetchone()
        self.move(instance, object_key)
        self.voices.choose_instance(instance)

    def _noted(self, instance: int) -> None:
        """Remember where an instance stands: what it comes to or leaves may have to speak otherwise."""
        study, series = self.db.execute("SELECT study, series FROM instance WHERE id = ?", (instance,)).fetchone()
        self._unheard |= {("study", study), ("series", series)}
        self._untold.add(series)

    def left(self, series: int) -> None:
        """Remember a series from which versions went: it may have fewer sources."""
        self._untold.add(series)

    def gone(self, series: int) -> None:
        """Forget the sources of a series whose row is about to go."""
        self._untold.discard(series)
        self.db.write("DELETE FROM series_source WHERE series = ?", (series,))

    def revoice(self) -> None:
        """Let studies and series that tombstones came to or left, and that hold nothing live, say what is left."""
        for series in sorted(self._untold):
            sources.tell(self.transaction, series)
        self._untold.clear()
        for table, identifier in sorted(self._unheard):
            found = self.db.execute(f"SELECT live FROM {table} WHERE id = ?", (identifier,)).fetchone()
            if found is not None and not found[0]:
                self.voices.choose(table, identifier, 0)
        self._unheard.clear()

    def of_another(self, study: int, patient: tuple[str, str, str]) -> bool:
        """Whether a study is another patient's."""
        found = self.db.execute(
            "SELECT s.id, s.live, s.source_version, p.issuer, p.patient_id"
            " FROM study s JOIN patient p ON p.id = s.patient WHERE s.id = ?",
            (study,),
        ).fetchone()
        row, live, source, issuer, patient_id = found
        there = Study(row, live, source, issuer, patient_id, None, None, None, frozenset())
        return self._of_another(there, patient)

    def _of_another(self, study: Study, patient: tuple[str, str, str]) -> bool:
        """Whether a study is another patient's.

        A blank Patient ID says nothing about who the patient is; modalities send both in one study. But a study whose
        IDs were all replaced by blank ones is still of the patient whom its earlier versions name.
        """
        if not study.live or not patient[1]:
            return False
        if study.patient_id:
            return (study.issuer, study.patient_id) != patient[:2]
        earlier = self.db.execute(
            "SELECT d.metadata FROM instance i JOIN version v ON v.instance = i.id JOIN document d ON d.version = v.id"
            " WHERE i.study = ? AND v.deleted IS NULL AND v.id <> i.current_version",
            (study.row,),
        )
        keys = (rows.patient_key(json_model.loads(rows.unpack(body)), "") for (body,) in rows_of(earlier))
        return any(key[1] and key[:2] != patient[:2] for key in keys)

    def live_versions(self, instance: int) -> list[_Version]:
        """An instance's versions that are not deleted."""
        found = self.db.execute(
            "SELECT id, version, header, transfer_syntax, canonical FROM version"
            " WHERE instance = ? AND deleted IS NULL",
            (instance,),
        )
        return [_Version(*row) for row in found.fetchall()]

    def _insert(
        self,
        arrival: Arrival,
        study: Study | None,
        instance: Instance | None,
        versions: list[_Version],
        patient: tuple[str, str, str],
    ) -> Commit:
        key, extract = arrival.key, arrival.extract
        change = self.transaction.next_change()
        ours = _Version(
            change, arrival.version, extract.header_digest, extract.transfer_syntax_uid, extract.canonical_digest
        )
        roles = {} if arrival.deletion_record else arrange([*versions, ours])
        role = roles.get(change, Role.SUPERSEDED)
        current = role is Role.CURRENT
        study_row = self._study_row(arrival, study, patient, change, live=current)
        series_row = self._series_row(arrival, study_row, study.series if study else None, change, live=current)
        instance_row = self._instance_row(arrival, instance, study_row, series_row, change, current=current)
        self._version_row(arrival, instance_row, change, role)
        sent = self._keep_source(arrival, study, series_row, instance_row, moved=instance is not None)
        for identifier, other in roles.items():
            if identifier != change:
                self.db.write("UPDATE version SET role = ? WHERE id = ?", (other.value, identifier))
        spoke = False
        if current:
            before = {version.version for version in versions}
            for table, speaker in _speakers(study):
                spoke |= self.voices.heard(table, speaker, extract.data_set, arrival.version, change, before)
        self._standing.changed(key, place=spoke or sent or study is None or study.series is None)
        if arrival.deletion_record:
            if instance is None or instance.current is None:
                self.settle(instance_row)
            return Commit(Outcome.STORED)
        if arrival.beside:
            # Nothing came: neither feed nor quiet times know of it. But its object is not where the study was moved.
            self.db.write("DELETE FROM study_class WHERE study = ?", (study_row,))
            return Commit(Outcome.ALTERNATIVE)
        place = feed.Place(key.tenant, study_row, series_row, instance_row, arrival.version)
        if role is Role.ALTERNATIVE:
            feed.record(self.transaction, change, Action.ALTERNATIVE, place)
            return Commit(Outcome.ALTERNATIVE)
        feed.record(self.transaction, change, Action.UPDATED if versions else Action.CREATED, place)
        return Commit(Outcome.NEW_VERSION if versions else Outcome.STORED)

    def _keep_source(self, arrival: Arrival, study: Study | None, series: int, instance: int, *, moved: bool) -> bool:
        """Keep who sent an arrival with its series; whether the series did not know."""
        if moved and arrival.deletion_record:
            # It may be a tombstone in a series that its instance has left since.
            self._untold.add(series)
            self._noted(instance)
            return False
        if study is not None and arrival.source_ae_title in study.sources:
            return False
        self.transaction.insert("series_source", {"series": series, "source_ae_title": arrival.source_ae_title})
        return True

    def _version_row(self, arrival: Arrival, instance: int, change: int, role: Role) -> None:
        extract = arrival.extract
        self.transaction.insert(
            "version",
            {
                "id": change,
                "instance": instance,
                "version": arrival.version,
                "role": role.value,
                "object_key": arrival.key.object_key(arrival.version),
                "data_offset": arrival.data_offset,
                "size": arrival.size,
                "sha256": arrival.sha256,
                "canonical": extract.canonical_digest,
                "header": extract.header_digest,
                "transfer_syntax": extract.transfer_syntax_uid,
                "extractor": EXTRACTOR_VERSION,
                "committed": change,
                "deleted": change if arrival.deletion_record else None,
                "deletion_record": arrival.deletion_record or None,
                "source_ae_title": arrival.source_ae_title,
                "beside": arrival.beside or None,
            },
        )
        self.transaction.used(arrival.key.tenant, 1, arrival.size)
        document = {"metadata": rows.pack(extract.metadata), "layout": rows.layout_document(extract)}
        self.transaction.insert("document", {"version": change, **document})
        for number, body in enumerate(extract.frame_chunks):
            self.transaction.insert("frame_chunk", {"version": change, "chunk": number, "body": body})

    def _study_row(
        self, arrival: Arrival, study: Study | None, patient: tuple[str, str, str], change: int, *, live: bool
    ) -> int:
        if study is not None:
            return study.row
        data_set = arrival.extract.data_set
        self.transaction.insert(
            "study",
            {
                "id": change,
                "tenant": arrival.key.tenant,
                "patient": self.voices.patient_row(arrival.key.tenant, patient),
                "live": live,
                "appeared": change if live else 0,
                "study_uid": arrival.key.study_uid,
                **voices.study_values(data_set, arrival.version),
            },
        )
        if live:
            self.voices.keep_names(change, data_set)
        return change

    def _series_row(self, arrival: Arrival, study: int, series: int | None, change: int, *, live: bool) -> int:
        if series is not None:
            return series
        data_set = arrival.extract.data_set
        self.transaction.insert(
            "series",
            {
                "id": change,
                "study": study,
                "live": live,
                "appeared": change if live else 0,
                "series_uid": arrival.key.series_uid,
                **voices.series_values(data_set, arrival.version),
            },
        )
        if live:
            self.voices.keep_requests(change, data_set)
        return change

    def _instance_row(
        self, arrival: Arrival, instance: Instance | None, study: int, series: int, change: int, *, current: bool
    ) -> int:
        spoken = voices.instance_values(arrival.extract.data_set, arrival.extract.sop_class_uid)
        if instance is None:
            values = {
                "id": change,
                "tenant": arrival.key.tenant,
                "study": study,
                "series": series,
                "current_version": change if current else None,
                "change": change,
                "appeared": change if current else 0,
                "sop_uid": arrival.key.sop_uid,
            }
            self.transaction.insert("instance", {**values, **spoken})
            return change
        if current:
            values = {"current_version": change, "change": change, **spoken}
            if instance.current is None:
                # A tombstone that comes back may stand elsewhere now.
                values |= {"appeared": change, "study": study, "series": series}
                self._noted(instance.row)
                self._untold.add(series)
            self.transaction.update("instance", instance.row, values)
        elif not arrival.deletion_record and not arrival.beside:
            self.transaction.update("instance", instance.row, {"change": change})
        return instance.row

    def quarantine(self, values: Sequence[str]) -> None:
        """Keep a row for a misplaced arrival; the values are the table's columns in their order."""
        version, tenant, object_key, study_uid, series_uid, sop_uid, reason = values
        self.db.write(
            "INSERT INTO quarantine (version, tenant, object_key, study_uid, series_uid, sop_uid, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (version, tenant, object_key, study_uid, series_uid, sop_uid, reason),
        )

    def keep_series_metadata(self, target: Target, base: str, generation: int, body: bytes) -> None:
        """Keep a consolidated body, unless a later one is there."""
        self.db.write(
            "INSERT INTO series_metadata (series, base, generation, body)"
            " SELECT e.id, ?, ?, ? FROM series e JOIN study s ON s.id = e.study"
            " WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ?"
            " ON CONFLICT (series) DO UPDATE"
            " SET base = excluded.base, generation = excluded.generation, body = excluded.body"
            " WHERE excluded.generation >= series_metadata.generation",
            (base, generation, body, target.tenant, target.study_uid, target.series_uid),
        )


def _speakers(study: Study | None) -> Iterator[tuple[str, voices.Speaker]]:
    """Through what an arrival's study and series speak, as far as they were there before it."""
    if study is None:
        return
    yield "study", voices.Speaker(study.row, study.live, study.source, blank=not study.patient_id)
    if study.series is not None:
        yield "series", voices.Speaker(study.series, bool(study.series_live), study.series_source or "")


def _misplaced(instance: Instance, arrival: Arrival) -> str:
    """Why a live instance's UID may not arrive with these identifiers; "" when it may."""
    if instance.study_uid != arrival.key.study_uid:
        return "the SOP Instance UID is in use in another study"
    if instance.series_uid != arrival.key.series_uid:
        return "the SOP Instance UID is in use in another series"
    if instance.sop_class_uid != arrival.extract.sop_class_uid:
        return "the SOP Instance UID is in use with another SOP class"
    return ""


def _refused(arrival: Arrival, versions: Sequence[_Version]) -> Commit | None:
    if arrival.conflict is not Conflict.REJECT or not versions:
        return None
    roles = arrange(versions)
    current = next(version for version in versions if roles[version.id] is Role.CURRENT)
    if _is_alternative(current, arrival.extract.header_digest, arrival.extract.transfer_syntax_uid):
        return None
    return Commit(Outcome.REJECTED, "the SOP Instance UID is in use with other content")
