"""The way through a data set: each element, at every depth, gets what its rule says."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from gateway.deid import dummies, markers, private, structured
from gateway.deid.actions import DATES, PATIENT_ID, Actions, Means, vr_of
from gateway.deid.explain import Done, Log
from gateway.deid.places import Mode, Place
from gateway.deid.private import Blocks, Claims
from gateway.deid.profile import Profile, Rule
from gateway.deid.recipe import RuleAction
from gateway.deid.table import Action, Option
from gateway.deid.uids import NAMES_A_KIND
from gateway.deid.values import (
    WORDS,
    Element,
    codecs_of,
    dataset_of,
    element_of,
    elements,
    items,
    made,
    raw_bytes,
    shared,
    texts,
    zeros,
)
from gateway.errors import NotDeidentified
from storage.dicom import charsets
from storage.dicom import vr as vrs
from storage.dicom.limits import Limits

_SOP_CLASS_UID, _PIXEL_GROUP = 0x00080016, 0x7FE0
_LEAVING = frozenset((Action.K, Action.C, Action.U, Action.D))
_WHOLE_NUMBERS = frozenset(("AT", "SL", "SS", "SV", "UL", "US", "UV"))
_MEASURES = frozenset(("DS", "FD", "FL", "IS"))


class Walk:
    """One instance's way through; keeps what was done and what is worth a warning."""

    def __init__(
        self,
        profile: Profile,
        means: Means,
        limits: Limits,
    ) -> None:
        self.profile = profile
        self.log = Log()
        self.positions: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._means = means
        self._limits = limits
        self._count = 0
        self._actions = Actions(means, "", "", self.log)
        self._encoding: tuple[bool | None, bool | None] = (None, None)
        self._claims = Claims()
        self._keeps_private = Option.RETAIN_SAFE_PRIVATE in profile.options

    def instance(self, source: Dataset) -> Dataset:
        """The top level of an instance."""
        place = Place(codecs=codecs_of(source, charsets.DEFAULT), position=((1,), (1,)))
        self._encoding = source.original_encoding
        sop_class_uid, patient_id = (self._first(source, tag, place) for tag in (_SOP_CLASS_UID, PATIENT_ID))
        self._actions = Actions(self._means, sop_class_uid, patient_id, self.log)
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
            if self._count > self._limits.max_elements:
                raise NotDeidentified("the data set has too many elements")
            if tag >> 16 & 1:
                found = None if blocks is None else self._private(source, element, tag, place, blocks)
                if blocks is None:
                    self.log.record(place.path, tag, None, Done.REMOVED, "private")
            else:
                found = self._standard(source, element, tag, place)
            if found is not None:
                kept[tag] = found
        if blocks is not None:
            self._creators(source, kept, place)
        return dataset_of(kept, source, self._encoding)

    def _first(self, source: Dataset, tag: int, place: Place) -> str:
        element = element_of(source, tag)
        values = [] if element is None else texts(element, vrs.of_tag(tag), place.codecs)
        return values[0] if values else ""

    # Standard attributes

    def _standard(self, source: Dataset, element: Element, tag: int, place: Place) -> Element | None:
        rule = place.overrides.get(tag) or self.profile.rule(tag)
        if not place.path and (tag in markers.WRITTEN or tag == private.CHARACTERISTICS):
            return self._of_the_engine(element, tag)
        if place.path and tag >> 16 == _PIXEL_GROUP:
            self.log.warn(tag, "removed: pixels in a sequence are looked at by nobody")
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "pixels in a sequence")
            return None
        if place.mode is Mode.DUMMY and rule.own is None:
            return self._in_dummy(source, element, tag, rule, place)
        if rule.own is not None and rule.own.action in (RuleAction.REPLACE, RuleAction.HASH):
            return self._actions.own(element, tag, rule, place)
        action = self._actions.decide(rule, tag, place)
        if action in _LEAVING and "SQ" in (rule.vr, element.VR):
            return self._sequence(action, source, element, tag, rule, place)
        return self._actions.do(action, element, tag, rule, place)

    def _of_the_engine(self, element: Element, tag: int) -> Element | None:
        """Markers are written anew; claims about private attributes are needed once those have been looked at."""
        if tag == private.CHARACTERISTICS and self._keeps_private:
            return element
        self.log.record((), tag, None, Done.REMOVED, "written by the engine")
        return None

    # Sequences

    def _sequence(
        self, action: Action, source: Dataset, element: Element, tag: int, rule: Rule, place: Place
    ) -> Element | None:
        if rule.vr != "SQ":
            self.log.warn(tag, "removed: it is a sequence and should not be one")
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "not of its VR")
            return None
        mode = Mode.DUMMY if action is Action.D else place.mode
        if action is Action.C and rule.why == Option.CLEAN_DESCRIPTORS:
            mode = Mode.CLEAN
        content = action is Action.C and rule.why == Option.CLEAN_STRUCTURED_CONTENT
        return self._enter(source, element, tag, rule, place, mode, content=content)

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
            self.log.warn(tag, "removed: it is not the sequence it should be")
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "not a sequence")
            return None
        inside = Place((*place.path, int(tag)), place.codecs, mode)
        if mode is Mode.DUMMY and place.mode is not Mode.DUMMY:
            self.log.record(place.path, tag, rule.action, Done.REPLACED, rule.why)
            fixed = dummies.item(tag)
            made_items = [] if not found else [fixed] if fixed is not None else [self.dataset(found[0], inside)]
            return made(tag, "SQ", Sequence(made_items))
        self.log.record(place.path, tag, rule.action, Done.ENTERED, rule.why)
        if content:
            kept = structured.content(self, found, inside, place.position)
            return made(tag, "SQ", Sequence(kept)) if kept or not found else None
        return made(tag, "SQ", Sequence([self.dataset(item, inside.beside()) for item in found]))

    def _in_dummy(self, source: Dataset, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        """An attribute in a sequence that is a dummy: of the item's form, without any of its content."""
        vr = vr_of(rule, element)
        if rule.basic is Action.X or (rule.listed and rule.action is Action.X):
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "in a dummy")
            return None
        if vr == "SQ" or element.VR == "SQ":
            found = (items(element, source) or [])[:1]
            inside = Place((*place.path, int(tag)), place.codecs, Mode.DUMMY)
            self.log.record(place.path, tag, rule.action, Done.REPLACED, "in a dummy")
            return made(tag, "SQ", Sequence([self.dataset(item, inside.beside()) for item in found]))
        if vr == "UI":
            self.log.record(place.path, tag, rule.action, Done.PSEUDONYM, "in a dummy")
            return shared(element) if tag in NAMES_A_KIND else self._actions.uids(element, tag, place)
        if vr in vrs.BYTES:
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "in a dummy")
            return None
        unlisted = not rule.listed
        if unlisted and element.VR not in WORDS and (vr in _WHOLE_NUMBERS or vr == "CS"):
            self.log.record(place.path, tag, rule.action, Done.KEPT, "form of a dummy")
            return shared(element)
        self.log.record(place.path, tag, rule.action, Done.REPLACED, "in a dummy")
        if vr in _MEASURES:
            return made(tag, vr, zeros(vr, element))
        return made(tag, vr, dummies.value(tag, vr))

    # Private attributes (PS3.15 E.3.10)

    def _private(self, source: Dataset, element: Element, tag: int, place: Place, blocks: Blocks) -> Element | None:
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return element  # reserves a block; goes again if nothing of the block stays
        known = None if place.mode is Mode.DUMMY else blocks.vr_if_safe(tag)
        if known is None:
            self.log.record(place.path, tag, Action.X, Done.REMOVED, "private")
            return None
        vr = known if known != "UN" else str(element.VR or "UN")
        rule = Rule(Action.C, Option.RETAIN_SAFE_PRIVATE, Action.X, vr)
        if vr == "SQ" or element.VR == "SQ":
            return self._enter(source, element, tag, rule, place, place.mode)
        if vr == "UI":
            if Option.RETAIN_UIDS in self.profile.options:
                self.log.record(place.path, tag, rule.action, Done.KEPT, Option.RETAIN_UIDS)
                return element
            self.log.record(place.path, tag, rule.action, Done.PSEUDONYM, rule.why)
            return self._actions.uids(element, tag, place)
        if vr in DATES:
            return self._private_date(element, tag, rule, place)
        if vr in WORDS or vr in ("AE", "UR"):
            return self._actions.words(self._means.cleaner, element, tag, rule, place)
        if vr == "AS":
            return self._actions.age(element, tag, rule, place)
        if vr in ("OB", "OW", "UN") and private.has_text(raw_bytes(element), self._means.cleaner.clean):
            self.log.record(place.path, tag, rule.action, Done.REMOVED, "text in bytes")
            return None
        self.log.record(place.path, tag, rule.action, Done.KEPT, rule.why)
        return shared(element)

    def _private_date(self, element: Element, tag: int, rule: Rule, place: Place) -> Element | None:
        if Option.RETAIN_MODIFIED_DATES in self.profile.options:
            return self._actions.shift(element, tag, rule, place)
        done = Done.KEPT if Option.RETAIN_FULL_DATES in self.profile.options else Done.REMOVED
        self.log.record(place.path, tag, rule.action, done, rule.why)
        return shared(element) if done is Done.KEPT else None

    def _creators(self, source: Dataset, kept: dict[BaseTag, Element], place: Place) -> None:
        """Only blocks that something is left of stay reserved."""
        used = {Blocks.creator_of(tag) for tag in kept if tag >> 16 & 1 and tag & 0xFFFF >= 0x1000}
        for tag in [tag for tag in kept if tag >> 16 & 1 and tag & 0xFFFF < 0x1000]:
            stays = int(tag) in used
            done = Done.KEPT if stays else Done.REMOVED
            self.log.record(place.path, tag, Action.C if stays else Action.X, done, "private creator")
            if not stays:
                del kept[tag]
        if not place.path and private.CHARACTERISTICS in kept:
            remaining = private.remaining_claims(source, kept, place.codecs)
            tag = BaseTag(private.CHARACTERISTICS)
            if remaining:
                kept[tag] = made(tag, "SQ", Sequence(remaining))
            else:
                del kept[tag]
