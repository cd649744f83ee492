"""Which of a compound action's parts an instance's IOD asks for (PS3.15 E.1.1 with the modules of PS3.3)."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.deid.table import Action, attribute_types

# For each compound action, what is done to an attribute of Type 1, 2 and 3.
# X/Z of a Type 1 attribute: Z may be a dummy (E.1.1), and only that leaves a valid instance.
# X/Z/U* of a Type 2 sequence: likewise, its references are kept with other UIDs; a segmentation whose source images
# are gone is of no use to anybody.
_BY_TYPE: Mapping[Action, Mapping[str, Action]] = {
    Action.XZ: {"1": Action.D, "2": Action.Z, "3": Action.X},
    Action.XD: {"1": Action.D, "2": Action.D, "3": Action.X},
    Action.ZD: {"1": Action.D, "2": Action.Z, "3": Action.Z},
    Action.XZD: {"1": Action.D, "2": Action.Z, "3": Action.X},
    Action.XZU: {"1": Action.U, "2": Action.U, "3": Action.X},
}
# Valid whatever the type is. X/Z has no part that is; an empty value is what most readers forgive.
_UNKNOWN: Mapping[Action, Action] = {
    Action.XZ: Action.Z,
    Action.XD: Action.D,
    Action.ZD: Action.D,
    Action.XZD: Action.D,
    Action.XZU: Action.U,
}


class AttributeTypes:
    """The types that one SOP class gives to attributes with a compound action."""

    def __init__(self, sop_class_uid: str) -> None:
        self._types = attribute_types().get(sop_class_uid)

    def decide(self, action: Action, path: tuple[int, ...]) -> Action:
        """The single action for an attribute.

        Parameters
        ----------
        action
            As the table has it; one that is not compound comes back as it is.
        path
            Tags of the sequences that the attribute is in, outermost first, and its own.

        Returns
        -------
        Action
            Of an unknown SOP class, and of a nested place that the tables do not know, the part that is valid whatever
            the type. An attribute at the top level that a known IOD does not have is Type 3 there (a Standard Extended
            SOP Class, PS3.2 7.3).
        """
        choices = _BY_TYPE.get(action)
        if choices is None:
            return action
        if self._types is None:
            return _UNKNOWN[action]
        kind = self._types.get(path)
        if kind is None:
            return choices["3"] if len(path) == 1 else _UNKNOWN[action]
        return choices[kind]
