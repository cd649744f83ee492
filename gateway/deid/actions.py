"""What each action does to an attribute that is not a sequence (PS3.15 Table E.1-1a)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.deid import dates, dummies, icc
from gateway.deid.explain import Done, Log
from gateway.deid.iods import AttributeTypes
from gateway.deid.places import Mode, Place
from gateway.deid.profile import Rule
from gateway.deid.pseudonyms import PseudonymousPatient, Pseudonyms
from gateway.deid.recipe import RuleAction
from gateway.deid.table import Action
from gateway.deid.text import TextCleaner
from gateway.deid.uids import is_uid
from gateway.deid.values import WORDS, Element, even, is_not_of_numbers, joined, made, raw_bytes, shared, texts
from storage.dicom import vr as vrs

PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
DATES = frozenset(("DA", "DT", "TM"))
_TIMEZONE, _ICC_PROFILE = 0x00080201, 0x00282000
_ENCAPSULATED_DOCUMENT = 0x00420011
_CODE_PARTS = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120))
_CODE_MEANING = 0x00080104
_NOT_TEXT = frozenset(vrs.NUMBER_FORMATS) | vrs.BYTES | {"AT"}


@dataclass(frozen=True, slots=True)
class Means:
    """What stands for identities, and what cleans text: where an option wants it, and in what a profile keeps."""

    pseudonyms: Pseudonyms
    patient: PseudonymousPatient
    cleaner: TextCleaner
    kept_text: TextCleaner | None


class Actions:
    """The actions, for one instance: of an SOP class, and of the patient of a Patient ID."""

    def __init__(self, means: Means, sop_class_uid: str, patient_id: str, log: Log) -> None:
        self._means = means
        self._sop_class_uid = sop_class_uid
        self._patient_id = patient_id
        self._types = AttributeTypes(sop_class_uid)
        self._log = log

    def decide(self, rule: Rule, tag: int, place: Place) -> Action:
        """The single action of a rule, by the IOD where it is a compound one."""
        return self._types.decide(rule.action, (*place.path, int(tag)))

    def do(self, action: Action, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """The attribute after a single action; None when it is removed."""
        if action is Action.K:
            return self._keep(element, tag, rule, place)
        if action is Action.X:
            self._log.record(place.path, tag, rule.action, Done.REMOVED, rule.why)
            return None
        if action is Action.C:
            return self._clean(element, tag, rule, place)
        if action is Action.Z:
            return self._empty(element, tag, rule, place)
        if action is Action.U:
            self._log.record(place.path, tag, rule.action, Done.PSEUDONYM, rule.why)
            return self.uids(element, tag, place)
        return self._dummy(element, tag, rule, place)

    def _fallback(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """The basic action, where cleaning leaves nothing."""
        basic = Rule(rule.basic, f"{rule.why}; nothing left", rule.basic, rule.vr)
        return self.do(self._types.decide(rule.basic, (*place.path, int(tag))), element, tag, basic, place)

    def _keep(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        vr = vr_of(rule, element)
        if (vr in _NOT_TEXT and element.VR in WORDS) or is_not_of_numbers(element, int(tag), vr):
            self._log.warn(tag, "removed: it holds something else than it should")
            self._log.record(place.path, tag, rule.action, Done.REMOVED, "not of its VR")
            return None
        if vr == "UI" and not all(map(is_uid, texts(element, "UI", place.codecs))):
            self._log.record(place.path, tag, rule.action, Done.PSEUDONYM, "not a UID")
            return self.uids(element, tag, place)
        if vr == "AS":
            return self.age(element, tag, rule, place)
        if tag == _ICC_PROFILE:
            return self._icc(element, tag, rule, place)
        if place.mode is Mode.CLEAN and not rule.listed and rule.vr in WORDS and tag not in _CODE_PARTS:
            return self.words(self._means.cleaner, element, tag, rule, place)
        if self._means.kept_text is not None and rule.vr in WORDS and tag not in _CODE_PARTS:
            return self._searched(element, tag, rule, place)
        self._log.record(place.path, tag, rule.action, Done.KEPT, rule.why)
        return shared(element)

    def age(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """An age, 90 years at most; one that is none is not kept."""
        values = texts(element, "AS", place.codecs)
        capped = [dates.capped_age(value) for value in values]
        if None in capped:
            return self._fallback(element, tag, rule, place)
        if capped == values:
            self._log.record(place.path, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        self._log.record(place.path, tag, rule.action, Done.CLEANED, "ages above 90 are 90")
        return made(tag, "AS", capped)

    def _icc(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        value = raw_bytes(element)
        cleaned = icc.without_text(value)
        if cleaned is None:
            self._log.warn(tag, "removed: it is not an ICC profile")
            self._log.record(place.path, tag, rule.action, Done.REMOVED, "not an ICC profile")
            return None
        self._log.record(place.path, tag, rule.action, Done.CLEANED, "texts of ICC profiles")
        return made(tag, "OB", cleaned)

    def _searched(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        """Text that the profile keeps, once the patient's identifiers are taken out of it."""
        assert self._means.kept_text is not None
        values = texts(element, rule.vr, place.codecs)
        found = [self._means.kept_text.clean(value) for value in values]
        if found == values:
            self._log.record(place.path, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        self._log.record(place.path, tag, rule.action, Done.CLEANED, "kept text with an identifier in it")
        return made(tag, rule.vr, joined(rule.vr, found))

    def _clean(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        if rule.vr in DATES:
            return self.shift(element, tag, rule, place)
        if tag == _TIMEZONE:
            values = texts(element, "SH", place.codecs)
            if not values or None in map(dates.valid_offset, values):
                return self._fallback(element, tag, rule, place)
            self._log.record(place.path, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        vr = vr_of(rule, element)
        if vr not in WORDS and vr not in ("AE", "CS") and rule.vr != "UN":
            return self._fallback(element, tag, rule, place)
        return self.words(self._means.cleaner, element, tag, rule, place)

    def words(self, cleaner: TextCleaner, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """Text, as a cleaner leaves it; where it leaves nothing, the basic action."""
        vr = vr_of(rule, element)
        # A text whose VR neither the table nor the file tells: one value, in the data set's characters.
        values = texts(element, "UT" if vr == "UN" else vr, place.codecs)
        found = [cleaner.clean(value) for value in values]
        if found == values:
            self._log.record(place.path, tag, rule.action, Done.KEPT, f"{rule.why}; nothing to clean")
            return shared(element)
        if not any(text.strip() for text in found):
            if tag == _CODE_MEANING:
                return self._dummy(element, tag, rule, place)
            if rule.basic is Action.K:
                return self._empty(element, tag, rule, place)
            return self._fallback(element, tag, rule, place)
        if vr in ("AE", "CS") or (vr == "UN" and not found[0].isascii()):
            return self._fallback(element, tag, rule, place)
        self._log.record(place.path, tag, rule.action, Done.CLEANED, rule.why)
        text = joined(vr, found)
        return made(tag, vr, even(text.encode("ascii")) if vr == "UN" else text)

    def shift(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """Dates and times, moved by the days of the patient; what is none is not kept."""
        values = texts(element, rule.vr, place.codecs)
        found = [dates.shifted(rule.vr, value, self._means.patient.shift_days) if value else "" for value in values]
        moved = [value for value in found if value is not None]
        if len(moved) < len(found):
            self._log.warn(tag, f"is no {rule.vr}, so it could not be shifted")
            return self._fallback(element, tag, rule, place)
        self._log.record(place.path, tag, rule.action, Done.SHIFTED, rule.why)
        return made(tag, rule.vr, joined(rule.vr, moved) if moved else None)

    def _empty(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        if not place.path and tag in (PATIENT_NAME, PATIENT_ID):
            return self._dummy(element, tag, rule, place)
        self._log.record(place.path, tag, rule.action, Done.EMPTIED, rule.why)
        vr = vr_of(rule, element)
        return made(tag, vr, [] if vr == "SQ" else None)

    def _dummy(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        vr = vr_of(rule, element)
        if tag == PATIENT_NAME and not place.path:
            self._log.record(place.path, tag, rule.action, Done.PSEUDONYM, rule.why)
            return made(tag, "PN", self._means.patient.name)
        if tag == PATIENT_ID:
            self._log.record(place.path, tag, rule.action, Done.PSEUDONYM, rule.why)
            return made(tag, "LO", self._pseudonymous_id(element, place))
        self._log.record(place.path, tag, rule.action, Done.REPLACED, rule.why)
        if tag == _ENCAPSULATED_DOCUMENT:
            return made(tag, "OB", dummies.document(self._sop_class_uid))
        if vr == "UI":
            return self.uids(element, tag, place)
        return made(tag, vr, dummies.value(tag, vr))

    def _pseudonymous_id(self, element: Element, place: Place) -> str:
        """The patient's at the top level and where the same id stands further down; another one has its own."""
        old = (texts(element, "LO", place.codecs) or [""])[0]
        if not place.path or not old or old == self._patient_id:
            return self._means.patient.id
        return f"P{self._means.pseudonyms.label('PatientID', old)}"

    def uids(self, element: Element, tag: int, place: Place) -> Element:
        """The UIDs' pseudonyms."""
        values = texts(element, "UI", place.codecs)
        found = [self._means.pseudonyms.uid(value) for value in values]
        return made(tag, "UI", found if len(found) > 1 else found[0] if found else None)

    def own(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        """A rule of the recipe that writes a value."""
        assert rule.own is not None
        if rule.own.action is RuleAction.REPLACE:
            self._log.record(place.path, tag, rule.action, Done.REPLACED, f"recipe: {rule.own.reason}")
            return made(tag, rule.vr, rule.own.value)
        self._log.record(place.path, tag, rule.action, Done.PSEUDONYM, f"recipe: {rule.own.reason}")
        if rule.vr == "UI":
            return self.uids(element, tag, place)
        values = texts(element, rule.vr, place.codecs)
        found = [self._means.pseudonyms.label(f"{tag:08x}", value) if value else "" for value in values]
        return made(tag, rule.vr, joined(rule.vr, found) if found else None)


def vr_of(rule: Rule, element: Element) -> str:
    """The attribute's VR: by the tables, or else as the data set has it."""
    return rule.vr if rule.vr != "UN" else str(element.VR or "UN")
