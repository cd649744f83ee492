"""Questions in protocol-free form, and what they ask of the index (PS3.18 8.3.4, PS3.4 C.2.2.2)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from gateway.errors import InvalidQuery
from storage.dicom import keys as texts
from storage.dicom import metadata
from storage.dicom import vr as vrs
from storage.dicom.attributes import BY_KEYWORD, BY_PATH, MOMENTS, Attribute, Computed, Level, describe
from storage.dicom.keys import Options
from storage.dicom.matching import AllOf, AnyOf, Condition, InItem
from storage.dicom.metadata import Item, Key, Reserved, Step, Value
from storage.dicom.normal import offset_minutes
from storage.errors import InvalidCondition
from storage.index.questions import Changed, Position

MAX_KEYS = 64
MAX_VALUES = 1000
MAX_DEPTH = 8
_UID_SEPARATORS = re.compile(r"[\\,]")
_CHARACTER_SET = "00080005"
_TIMEZONE_OFFSET = "00080201"
_LEVEL = "00080052"
_REQUEST_ATTRIBUTES = "00400275"


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A question in protocol-free form.

    ``keys`` are pairs of an attribute's path (``storage.dicom.attributes.path_of``) and the text to match; an
    empty text matches everything. ``include`` are paths to return beyond the defaults; ``include_all`` everything
    that is known at the level. ``only`` returns just ``include``, as C-FIND does. ``snapshot`` is the change whose
    rows are asked for. The total is exact up to ``counted`` rows at least.

    ``conditions`` and ``in_study`` are those that a protocol has made by itself, beyond what keys can say
    (``storage.index.questions.Search``); ``told`` are keys that say the same for the trail, and match nothing.
    ``after`` is the position after which the rows come. ``changes`` and ``changed`` are about the last change of a
    study (``storage.index.questions.Search``).
    """

    level: Level
    keys: tuple[tuple[str, str], ...] = ()
    include: frozenset[str] = frozenset()
    include_all: bool = False
    only: bool = False
    options: Options = texts.PLAIN
    limit: int = 1000
    offset: int = 0
    snapshot: int | None = None
    counted: int = 0
    conditions: tuple[Condition, ...] = ()
    in_study: tuple[Condition, ...] = ()
    told: tuple[tuple[str, str], ...] = ()
    after: Position | None = None
    changes: bool = False
    changed: Changed | None = None


@dataclasses.dataclass(slots=True)
class Asked:
    """What a question asks of the index, and what it cannot ask: ``unmatched`` describes such keys."""

    conditions: list[Condition] = dataclasses.field(default_factory=list)
    in_study: list[Condition] = dataclasses.field(default_factory=list)
    metadata: list[Key] = dataclasses.field(default_factory=list)
    unmatched: list[str] = dataclasses.field(default_factory=list)


def asked(query: Query) -> Asked:
    """What a question asks of the index. Raises InvalidQuery."""
    if len(query.keys) > MAX_KEYS:
        raise InvalidQuery(f"more than {MAX_KEYS} attributes to match")
    keys = {path: text for path, text in query.keys if text.strip(" *")}
    offset = keys.pop(_TIMEZONE_OFFSET, "")
    if offset and offset_minutes(offset) is None:
        raise InvalidQuery(f"{describe(_TIMEZONE_OFFSET)}: an offset such as +0100")
    keys.pop(_CHARACTER_SET, None)
    options = dataclasses.replace(query.options, offset=offset.strip(" "))
    found = Asked(list(query.conditions), list(query.in_study))
    try:
        _moments(keys, options, found)
        _top_level(keys, options, found, strict=not query.only)
    except InvalidCondition as error:
        raise InvalidQuery(str(error)) from error
    return found


def of_data_sets(pairs: Iterable[tuple[str, str]], options: Options = texts.PLAIN) -> list[Key]:
    """What pairs of paths and texts ask of data sets that stand in no index. Raises InvalidQuery.

    Private keys without their creators match everything.
    """
    # What a request says of itself, which some modalities send by mistake (PS3.4 K.2.2.2).
    ours = (_CHARACTER_SET, _TIMEZONE_OFFSET, _LEVEL)
    keys = {path: text for path, text in pairs if text.strip(" *") and path not in ours}
    if len(keys) > MAX_KEYS:
        raise InvalidQuery(f"more than {MAX_KEYS} attributes to match")
    return _stored(keys, options, Asked(), strict=False)


def _moments(keys: dict[str, str], options: Options, found: Asked) -> None:
    """Pairs of a date and its time that are matched as one; they leave the keys."""
    for moment in MOMENTS:
        dates, times = keys.get(moment.date.path, ""), keys.get(moment.time.path, "")
        asked_for = (options.combined and dates and times) or (options.offset and dates)
        if not asked_for or texts.EMPTY in (dates.strip(" "), times.strip(" ")):
            continue
        together = texts.combined(moment, dates, times, options)
        if together is not None:
            found.conditions.append(together)
            keys.pop(moment.date.path)
            keys.pop(moment.time.path, None)


def _top_level(keys: dict[str, str], options: Options, found: Asked, *, strict: bool) -> None:
    items: dict[str, dict[str, str]] = {}
    rest: dict[str, str] = {}
    for path, text in keys.items():
        head, dot, inner = path.partition(".")
        attribute = BY_PATH.get(path)
        if dot:
            items.setdefault(head, {})[inner] = text
        elif attribute is None or not (attribute.column or attribute.computed):
            rest[path] = text
        elif attribute.computed:
            _computed(attribute, text, options, found)
        else:
            found.conditions.append(condition(attribute, text, options))
    for head, inner_keys in items.items():
        paths = {f"{head}.{inner}": text for inner, text in inner_keys.items()}
        known = [(BY_PATH[path], text) for path, text in paths.items() if path in BY_PATH]
        if head == _REQUEST_ATTRIBUTES and len(known) == len(paths):
            found.conditions.append(InItem(AllOf(tuple(_in_item(*each, options) for each in known))))
        else:
            rest.update(paths)
    found.metadata.extend(_stored(rest, options, found, strict=strict))


def _in_item(attribute: Attribute, text: str, options: Options) -> Condition:
    """The condition of one key within the item of which all keys speak."""
    return texts.condition(dataclasses.replace(attribute, items=""), text, options)


def condition(attribute: Attribute, text: str, options: Options = texts.PLAIN) -> Condition:
    """The condition of one key on an attribute with a column. Raises InvalidQuery, InvalidCondition."""
    if attribute.vr == "UI" and len(_UID_SEPARATORS.split(text)) > MAX_VALUES:
        raise InvalidQuery(f"more than {MAX_VALUES} values in a list")
    return texts.condition(attribute, text, options)


def _computed(attribute: Attribute, text: str, options: Options, found: Asked) -> None:
    """Keys on what is gathered from the series and instances of a study."""
    if attribute.computed is Computed.SOP_CLASSES_IN_STUDY:
        found.in_study.append(condition(BY_KEYWORD["SOPClassUID"], text))
        return
    if attribute.computed is not Computed.MODALITIES_IN_STUDY:
        found.unmatched.append(describe(attribute.path))
        return
    if options.empty_values and text.strip(" ") == texts.EMPTY:
        raise InvalidQuery(f"{describe(attribute.path)}: every study has a modality")
    modality = BY_KEYWORD["Modality"]
    values = [value.strip() for value in _UID_SEPARATORS.split(text) if value.strip()]
    if len(values) > MAX_VALUES:
        raise InvalidQuery(f"more than {MAX_VALUES} values in a list")
    exact = [value for value in values if "*" not in value and "?" not in value]
    patterns = [texts.wildcard(modality, value) for value in values if value not in exact]
    together = options.multiple_values and "\\" in text
    if len(values if together else patterns) > texts.MAX_TOGETHER:
        raise InvalidQuery(f"{describe(attribute.path)}: more than {texts.MAX_TOGETHER} values at once")
    if together:
        found.in_study.extend((*patterns, *(texts.single(modality, value) for value in exact)))
    else:
        found.in_study.append(AnyOf((*patterns, *([texts.any_of(modality, exact)] if exact else []))))


def _stored(keys: Mapping[str, str], options: Options, found: Asked, *, strict: bool) -> list[Key]:
    """Keys on stored metadata; those of one sequence together, private ones with their creators."""
    paths = set(keys)
    used = {creator for path in paths for creator in _creators(path)}
    tree: dict[Step, object] = {}
    for path, text in sorted(keys.items()):
        if path in used:
            continue
        steps = steps_of(path, keys, strict=strict)
        if steps is None:
            found.unmatched.append(describe(path))
            continue
        _check(path, steps, text, options)
        branch = tree
        for step in steps[:-1]:
            inner = branch.setdefault(step, {})
            assert isinstance(inner, dict)
            branch = inner
        branch[steps[-1]] = text
    return _grown(tree, options)


def _grown(tree: Mapping[Step, object], options: Options) -> list[Key]:
    grown: list[Key] = []
    for step, below in tree.items():
        if isinstance(below, Mapping):
            grown.append(Item(step, tuple(_grown(below, options))))
        elif metadata.is_creator(step.tag):
            grown.append(Reserved(step.tag[:4], str(below).strip(" ")))
        else:
            grown.append(Value(step, _vr(step.tag), str(below), options))
    return grown


def _vr(tag: str) -> str:
    """The dictionary's VR; "" where it has none and the stored one decides."""
    found = vrs.of_tag(int(tag, 16))
    return "" if found == "UN" or metadata.is_private(tag) else found


def _creators(path: str) -> list[str]:
    """Paths of the creator elements that the private elements on a path need beside them."""
    parts = path.split(".")
    return [
        ".".join([*parts[:place], metadata.creator_tag(tag)])
        for place, tag in enumerate(parts)
        if metadata.is_private(tag)
    ]


def steps_of(path: str, keys: Mapping[str, str], *, strict: bool = True) -> tuple[Step, ...] | None:
    """A path with the creators of its private elements, which stand among the keys (PS3.18 8.3.4.1, rule 4).

    Without its creator, a private element raises InvalidQuery, or gives None when that is not to be strict.
    """
    parts = path.split(".")
    if len(parts) > MAX_DEPTH:
        raise InvalidQuery(f"a path of more than {MAX_DEPTH} attributes")
    steps = []
    for place, tag in enumerate(parts):
        creator = ""
        if metadata.is_private(tag):
            needed = ".".join([*parts[:place], metadata.creator_tag(tag)])
            creator = keys.get(needed, "").strip(" ")
            if not creator and strict:
                raise InvalidQuery(f"{describe(tag)}: a private attribute needs its creator, {needed}=...")
            if not creator:
                return None
        steps.append(Step(tag, creator))
    return tuple(steps)


def _check(path: str, steps: tuple[Step, ...], text: str, options: Options) -> None:
    """Refuse keys that no data set could satisfy."""
    for step in steps[:-1]:
        if _vr(step.tag) not in ("SQ", ""):
            raise InvalidQuery(f"{describe(step.tag)}: not a sequence")
    last = steps[-1]
    if last.tag[:4] == "0002" or last.tag[4:] == "0000":
        raise InvalidQuery(f"{describe(path)}: not an attribute of a data set")
    vr = _vr(last.tag)
    if vr == "SQ" and text.strip(" ") != texts.EMPTY:
        raise InvalidQuery(f"{describe(path)}: a sequence is matched by the attributes in its items")
    if vr == "UI" and len(_UID_SEPARATORS.split(text)) > MAX_VALUES:
        raise InvalidQuery(f"more than {MAX_VALUES} values in a list")
    if vr and vr != "SQ":
        try:
            metadata.condition(vr, text, options)
        except InvalidCondition as error:
            raise InvalidQuery(f"{describe(path)}: {str(error).partition(': ')[2]}") from error
