"""The way through a data set: each element, at every depth, gets what its rule says."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from gateway.deid import dates, dummies, icc, markers, private, structured
from gateway.deid.explain import Done, Outcome
from gateway.deid.iods import AttributeTypes
from gateway.deid.places import Mode, Place
from gateway.deid.private import Blocks, Claims
from gateway.deid.profile import Profile, Rule
from gateway.deid.pseudonyms import PseudonymousPatient, Pseudonyms
from gateway.deid.recipe import RuleAction
from gateway.deid.table import Action, Option
from gateway.deid.text import TextCleaner
from gateway.deid.uids import NAMES_A_KIND, is_uid
from gateway.deid.values import (
    WORDS,
    Element,
    codecs_of,
    dataset_of,
    element_of,
    elements,
    even,
    items,
    joined,
    made,
    raw_bytes,
    shared,
    texts,
    too_long_for_numbers,
    zeros,
)
from gateway.errors import NotDeidentified
from storage.dicom import charsets
from storage.dicom import vr as vrs
from storage.dicom.limits import Limits

_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_CHARACTER_SET, _TIMEZONE, _ICC_PROFILE = 0x00080005, 0x00080201, 0x00282000
_ENCAPSULATED_DOCUMENT, _PIXEL_GROUP = 0x00420011, 0x7FE0
_CODE_PARTS = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120))
_CODE_MEANING = 0x00080104
_DATES = frozenset(("DA", "DT", "TM"))
_NOT_TEXT = frozenset(vrs.NUMBER_FORMATS) | vrs.BYTES | {"AT"}
_WHOLE_NUMBERS = frozenset(("AT", "SL", "SS", "SV", "UL", "US", "UV"))
_MEASURES = frozenset(("DS", "FD", "FL", "IS"))


class Walk:
    """One instance's way through; keeps what was done and what is worth a warning."""

    def __init__(
        self,
        profile: Profile,
        pseudonyms: Pseudonyms,
        patient: PseudonymousPatient,
        cleaner: TextCleaner,
        kept_text: TextCleaner | None,
        limits: Limits,
    ) -> None:
        self.profile = profile
        self.outcomes: list[Outcome] = []
        self.warnings: list[str] = []
        self.positions: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._pseudonyms = pseudonyms
        self._patient = patient
        self._cleaner = cleaner
        self._kept_text = kept_text
        self._limits = limits
        self._count = 0
        self._types = AttributeTypes("")
        self._encoding: tuple[bool | None, bool | None] = (None, None)
        self._sop_class = ""
        self._patient_id = ""
        self._claims = Claims()
        self._keeps_private = Option.RETAIN_SAFE_PRIVATE in profile.options

    def instance(self, source: Dataset) -> Dataset:
        """The top level of an instance."""
        place = Place(codecs=codecs_of(source, charsets.DEFAULT), position=((1,), (1,)))
        self._encoding = source.original_encoding
        self._sop_class = self._first(source, 0x00080016, place)
        self._types = AttributeTypes(self._sop_class)
        self._patient_id = self._first(source, _PATIENT_ID, place)
        if self._keeps_private:
            self._claims = private.claims_of(source, place.codecs)
        return self.dataset(source, place)

    def dataset(self, source: Dataset, place: Place) -> Dataset:
        """One data set or item; ``place`` has the character sets of the one around it."""
        if len(place.path) > self._limits.max_depth:
            raise NotDeidentified("sequences are nested too deeply")
        place.codecs = codecs_of(source, place.codecs)
        blocks = Blocks(source, self.profile.safe_private, self._claims) if self._keeps_private else None
        kept: dict[BaseTag, Element] = {}
        for tag, element in elements(source):
            self._count += 1
            if tag >> 16 & 1:
                found = None if blocks is None else self._private(source, element, tag, place, blocks)
                if blocks is None:
                    self._record(place, tag, None, Done.REMOVED, "private")
            else:
                found = self._standard(source, element, tag, place)
            if found is not None:
                kept[tag] = found
        if self._count > self._limits.max_elements:
            raise NotDeidentified("the data set has too many elements")
        if blocks is not None:
            self._creators(source, kept, place)
        return dataset_of(kept, source, self._encoding)

    def _record(self, place: Place, tag: int, action: Action | None, done: Done, why: str) -> None:
        self.outcomes.append(Outcome((*place.path, int(tag)), action, done, why))

    def _first(self, source: Dataset, tag: int, place: Place) -> str:
        element = element_of(source, tag)
        values = [] if element is None else texts(element, vrs.of_tag(tag), place.codecs)
        return values[0] if values else ""

    # Standard attributes

    def _standard(self, source: Dataset, element: Element, tag: int, place: Place) -> Element | None:
        rule = place.overrides.get(tag) or self.profile.rule(tag)
        if not place.path and (tag in markers.WRITTEN or tag == private.CHARACTERISTICS):
            return self._of_the_engine(element, tag)
        if place.mode is Mode.DUMMY and rule.own is None:
            return self._in_dummy(source, element, tag, rule, place)
        if rule.own is not None and rule.own.action in (RuleAction.REPLACE, RuleAction.HASH):
            return self._own(element, tag, rule, place)
        action = self._types.decide(rule.action, (*place.path, int(tag)))
        return self._do(action, source, element, tag, rule, place)

    def _of_the_engine(self, element: Element, tag: int) -> Element | None:
        """Markers are written anew; claims about private attributes are needed once those have been looked at."""
        if tag == private.CHARACTERISTICS and self._keeps_private:
            return element
        self._record(Place(), tag, None, Done.REMOVED, "written by the engine")
        return None

    def _do(
        self, action: Action, source: Dataset, element: Element, tag: int, rule: Rule, place: Place
    ) -> Element | None:
        if action is Action.K:
            return self._keep(source, element, tag, rule, place)
        if action is Action.X:
            self._record(place, tag, rule.action, Done.REMOVED, rule.why)
            return None
        if action is Action.C:
            return self._clean(source, element, tag, rule, place)
        if action is Action.Z:
            return self._empty(element, tag, rule, place)
        if rule.vr == "SQ" or element.VR == "SQ":
            return self._enter(source, element, tag, rule, place, Mode.DUMMY if action is Action.D else place.mode)
        if action is Action.U:
            self._record(place, tag, rule.action, Done.PSEUDONYM, rule.why)
            return self._uids(element, tag, place)
        return self._dummy(element, tag, rule, place)

    def _fallback(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """The basic action, where cleaning leaves nothing."""
        basic = Rule(rule.basic, f"{rule.why}; nothing left", rule.basic, rule.vr)
        return self._do(self._types.decide(rule.basic, (*place.path, int(tag))), source, element, tag, basic, place)

    def _keep(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        if rule.vr == "SQ":
            return self._enter(source, element, tag, rule, place, place.mode)
        vr = _vr(rule, element)
        if (
            element.VR == "SQ"
            or (vr in _NOT_TEXT and element.VR in WORDS)
            or too_long_for_numbers(element, int(tag), vr)
        ):
            self.warnings.append(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) removed: its VR is not that of the dictionary")
            self._record(place, tag, rule.action, Done.REMOVED, "not in its VR")
            return None
        if vr == "UI" and not all(map(is_uid, texts(element, "UI", place.codecs))):
            self._record(place, tag, rule.action, Done.PSEUDONYM, "not a UID")
            return self._uids(element, tag, place)
        if vr == "AS":
            return self._age(source, element, tag, rule, place)
        if tag == _ICC_PROFILE:
            return self._icc(element, tag, rule, place)
        if place.mode is Mode.CLEAN and not rule.listed and rule.vr in WORDS and tag not in _CODE_PARTS:
            return self._words(self._cleaner, source, element, tag, rule, place)
        if self._kept_text is not None and rule.vr in WORDS and tag not in _CODE_PARTS:
            return self._searched(element, tag, rule, place)
        self._record(place, tag, rule.action, Done.KEPT, rule.why)
        return shared(element)

    def _age(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        values = texts(element, "AS", place.codecs)
        capped = [dates.capped_age(value) for value in values]
        if None in capped:
            return self._fallback(source, element, tag, rule, place)
        if capped == values:
            self._record(place, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        self._record(place, tag, rule.action, Done.CLEANED, "ages above 90 are 90")
        return made(tag, "AS", capped)

    def _icc(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        value = raw_bytes(element)
        cleaned = icc.without_text(value)
        if cleaned is None:
            self.warnings.append("an ICC profile that cannot be read was removed")
            self._record(place, tag, rule.action, Done.REMOVED, "not an ICC profile")
            return None
        self._record(place, tag, rule.action, Done.CLEANED, "texts of ICC profiles")
        return made(tag, "OB", cleaned)

    def _searched(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        """Text that the profile keeps, once the patient's identifiers are taken out of it."""
        assert self._kept_text is not None
        values = texts(element, rule.vr, place.codecs)
        found = [self._kept_text.clean(value) for value in values]
        if found == values:
            self._record(place, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        self._record(place, tag, rule.action, Done.CLEANED, "kept text with an identifier in it")
        if rule.vr not in WORDS:
            return made(tag, rule.vr, None)
        return made(tag, rule.vr, joined(rule.vr, found))

    def _clean(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        if rule.vr == "SQ":
            content = rule.why == Option.CLEAN_STRUCTURED_CONTENT
            descriptors = rule.why == Option.CLEAN_DESCRIPTORS
            return self._enter(
                source, element, tag, rule, place, Mode.CLEAN if descriptors else place.mode, content=content
            )
        if rule.vr in _DATES:
            return self._shift(source, element, tag, rule, place)
        if tag == _TIMEZONE:
            values = texts(element, "SH", place.codecs)
            if not values or None in map(dates.valid_offset, values):
                return self._fallback(source, element, tag, rule, place)
            self._record(place, tag, rule.action, Done.KEPT, rule.why)
            return shared(element)
        vr = _vr(rule, element)
        if vr not in WORDS and vr not in ("AE", "CS") and rule.vr != "UN":
            return self._fallback(source, element, tag, rule, place)
        return self._words(self._cleaner, source, element, tag, rule, place)

    def _words(
        self, cleaner: TextCleaner, source: Dataset, element: Element, tag: int, rule: Rule, place: Place
    ) -> Element | None:
        vr = _vr(rule, element)
        # A text whose VR neither the table nor the file tells: one value, in the data set's characters.
        values = texts(element, "UT" if vr == "UN" else vr, place.codecs)
        found = [cleaner.clean(value) for value in values]
        if found == values:
            self._record(place, tag, rule.action, Done.KEPT, f"{rule.why}; nothing to clean")
            return shared(element)
        if not any(text.strip() for text in found):
            if tag == _CODE_MEANING:
                return self._dummy(element, tag, rule, place)
            if rule.basic is Action.K:
                return self._empty(element, tag, rule, place)
            return self._fallback(source, element, tag, rule, place)
        if vr in ("AE", "CS") or (vr == "UN" and not found[0].isascii()):
            return self._fallback(source, element, tag, rule, place)
        self._record(place, tag, rule.action, Done.CLEANED, rule.why)
        text = joined(vr, found)
        return made(tag, vr, even(text.encode("ascii")) if vr == "UN" else text)

    def _shift(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        values = texts(element, rule.vr, place.codecs)
        found = [dates.shifted(rule.vr, value, self._patient.shift_days) if value else "" for value in values]
        moved = [value for value in found if value is not None]
        if len(moved) < len(found):
            self.warnings.append(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is no {rule.vr}, so it could not be shifted")
            return self._fallback(source, element, tag, rule, place)
        self._record(place, tag, rule.action, Done.SHIFTED, rule.why)
        return made(tag, rule.vr, joined(rule.vr, moved) if moved else None)

    def _empty(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        if not place.path and tag in (_PATIENT_NAME, _PATIENT_ID):
            return self._dummy(element, tag, rule, place)
        self._record(place, tag, rule.action, Done.EMPTIED, rule.why)
        vr = _vr(rule, element)
        return made(tag, vr, [] if vr == "SQ" else None)

    def _dummy(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        vr = _vr(rule, element)
        if tag == _PATIENT_NAME and not place.path:
            self._record(place, tag, rule.action, Done.PSEUDONYM, rule.why)
            return made(tag, "PN", self._patient.name)
        if tag == _PATIENT_ID:
            self._record(place, tag, rule.action, Done.PSEUDONYM, rule.why)
            return made(tag, "LO", self._pseudonymous_id(element, place))
        self._record(place, tag, rule.action, Done.REPLACED, rule.why)
        if tag == _ENCAPSULATED_DOCUMENT:
            return made(tag, "OB", dummies.document(self._sop_class))
        if vr == "UI":
            return self._uids(element, tag, place)
        return made(tag, vr, dummies.value(tag, vr))

    def _pseudonymous_id(self, element: Element, place: Place) -> str:
        """The patient's at the top level and where the same id stands further down; another one has its own."""
        old = (texts(element, "LO", place.codecs) or [""])[0]
        if not place.path or not old or old == self._patient_id:
            return self._patient.id
        return f"P{self._pseudonyms.label('PatientID', old)}"

    def _uids(self, element: Element, tag: int, place: Place) -> Element:
        values = texts(element, "UI", place.codecs)
        found = [self._pseudonyms.uid(value) for value in values]
        return made(tag, "UI", found if len(found) > 1 else found[0] if found else None)

    def _own(self, element: Element, tag: int, rule: Rule, place: Place) -> Element:
        """A rule of the recipe that writes a value."""
        assert rule.own is not None
        if rule.own.action is RuleAction.REPLACE:
            self._record(place, tag, rule.action, Done.REPLACED, f"recipe: {rule.own.reason}")
            return made(tag, rule.vr, rule.own.value)
        self._record(place, tag, rule.action, Done.PSEUDONYM, f"recipe: {rule.own.reason}")
        if rule.vr == "UI":
            return self._uids(element, tag, place)
        values = texts(element, rule.vr, place.codecs)
        found = [self._pseudonyms.label(f"{tag:08x}", value) if value else "" for value in values]
        return made(tag, rule.vr, joined(rule.vr, found) if found else None)

    # Sequences

    def _enter(
        self,
        source: Dataset,
        element: Element,
        tag: int,
        rule: Rule,
        place: Place,
        mode: Mode,
        *,
        content: bool = False,
    ) -> Element | None:
        found = items(element, source)
        if found is None:
            self.warnings.append(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) removed: it is not the sequence it should be")
            self._record(place, tag, rule.action, Done.REMOVED, "not a sequence")
            return None
        inside = Place((*place.path, int(tag)), place.codecs, mode)
        if mode is Mode.DUMMY and place.mode is not Mode.DUMMY:
            self._record(place, tag, rule.action, Done.REPLACED, rule.why)
            fixed = dummies.item(tag)
            made_items = [] if not found else [fixed] if fixed is not None else [self.dataset(found[0], inside)]
            return made(tag, "SQ", Sequence(made_items))
        self._record(place, tag, rule.action, Done.ENTERED, rule.why)
        if content:
            kept = structured.content(self, found, inside, place.position)
            return made(tag, "SQ", Sequence(kept)) if kept or not found else None
        return made(tag, "SQ", Sequence([self.dataset(item, inside.beside()) for item in found]))

    def _in_dummy(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """An attribute in a sequence that is a dummy: of the item's form, without any of its content."""
        vr = _vr(rule, element)
        if rule.basic is Action.X or (rule.listed and rule.action is Action.X):
            self._record(place, tag, rule.action, Done.REMOVED, "in a dummy")
            return None
        if vr == "SQ" or element.VR == "SQ":
            found = (items(element, source) or [])[:1]
            inside = Place((*place.path, int(tag)), place.codecs, Mode.DUMMY)
            self._record(place, tag, rule.action, Done.REPLACED, "in a dummy")
            return made(tag, "SQ", Sequence([self.dataset(item, inside.beside()) for item in found]))
        if vr == "UI":
            self._record(place, tag, rule.action, Done.PSEUDONYM, "in a dummy")
            return shared(element) if tag in NAMES_A_KIND else self._uids(element, tag, place)
        if vr in vrs.BYTES:
            self._record(place, tag, rule.action, Done.REMOVED, "in a dummy")
            return None
        unlisted = not rule.listed
        if unlisted and element.VR not in WORDS and (vr in _WHOLE_NUMBERS or vr == "CS"):
            self._record(place, tag, rule.action, Done.KEPT, "form of a dummy")
            return shared(element)
        self._record(place, tag, rule.action, Done.REPLACED, "in a dummy")
        if vr in _MEASURES:
            return made(tag, vr, zeros(vr, element))
        return made(tag, vr, dummies.value(tag, vr))

    # Private attributes (PS3.15 E.3.10)

    def _private(self, source: Dataset, element: Element, tag: int, place: Place, blocks: Blocks) -> Element | None:
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return element  # reserves a block; goes again if nothing of the block stays
        known = None if place.mode is Mode.DUMMY else blocks.vr_if_safe(tag)
        if known is None:
            self._record(place, tag, Action.X, Done.REMOVED, "private")
            return None
        vr = known if known != "UN" else str(element.VR or "UN")
        rule = Rule(Action.C, Option.RETAIN_SAFE_PRIVATE, Action.X, vr)
        if vr == "SQ" or element.VR == "SQ":
            return self._enter(source, element, tag, rule, place, place.mode)
        if vr == "UI":
            if Option.RETAIN_UIDS in self.profile.options:
                self._record(place, tag, rule.action, Done.KEPT, Option.RETAIN_UIDS)
                return element
            self._record(place, tag, rule.action, Done.PSEUDONYM, rule.why)
            return self._uids(element, tag, place)
        if vr in _DATES:
            return self._private_date(source, element, tag, rule, place)
        if vr in WORDS or vr in ("AE", "UR"):
            return self._words(self._cleaner, source, element, tag, rule, place)
        if vr == "AS":
            return self._age(source, element, tag, rule, place)
        if vr in ("OB", "OW", "UN") and private.has_text(raw_bytes(element), self._cleaner.clean):
            self._record(place, tag, rule.action, Done.REMOVED, "text in bytes")
            return None
        self._record(place, tag, rule.action, Done.KEPT, rule.why)
        return shared(element)

    def _private_date(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        if Option.RETAIN_MODIFIED_DATES in self.profile.options:
            return self._shift(source, element, tag, rule, place)
        done = Done.KEPT if Option.RETAIN_FULL_DATES in self.profile.options else Done.REMOVED
        self._record(place, tag, rule.action, done, rule.why)
        return shared(element) if done is Done.KEPT else None

    def _creators(self, source: Dataset, kept: dict[BaseTag, Element], place: Place) -> None:
        """Only blocks that something is left of stay reserved."""
        used = {Blocks.creator_of(tag) for tag in kept if tag >> 16 & 1 and tag & 0xFFFF >= 0x1000}
        for tag in [tag for tag in kept if tag >> 16 & 1 and tag & 0xFFFF < 0x1000]:
            stays = int(tag) in used
            done = Done.KEPT if stays else Done.REMOVED
            self._record(place, tag, Action.C if stays else Action.X, done, "private creator")
            if not stays:
                del kept[tag]
        if not place.path and private.CHARACTERISTICS in kept:
            remaining = private.remaining_claims(source, kept, place.codecs)
            tag = BaseTag(private.CHARACTERISTICS)
            if remaining:
                kept[tag] = made(tag, "SQ", Sequence(remaining))
            else:
                del kept[tag]


def _vr(rule: Rule, element: Element) -> str:
    """The attribute's VR: by the tables, or else as the data set has it."""
    return rule.vr if rule.vr != "UN" else str(element.VR or "UN")
