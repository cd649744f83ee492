"""Private attributes that are known to identify nobody (PS3.15 E.3.10 "Retain Safe Private Option").

The table is not part of the gateway: whoever wants the option names a file of theirs, in this form:

.. code-block:: json

    {"safe_private_attributes": [
        {"private_creator": "SIEMENS MR HEADER", "group": "0019", "element_in_block": "0c", "vr": "IS"}
    ]}

A row is known by its private creator, its group and the last two digits of its element: the block that the creator
reserves differs from file to file (PS3.5 7.8.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.config import InvalidSettings


class PrivateKey(NamedTuple):
    """What names a private attribute."""

    creator: str
    group: int
    element: int


class _Attribute(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    private_creator: Annotated[str, Field(min_length=1, max_length=64)]
    group: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{3}[13579bdfBDF]$")]
    element_in_block: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{2}$")]
    vr: Annotated[str, Field(pattern=r"^[A-Z]{2}(/[A-Z]{2})?$")] | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    safe_private_attributes: list[_Attribute]


@dataclass(frozen=True)
class SafePrivate:
    """The rows, with the VR of each ("UN" where it is not known).

    ``honour_claims`` takes as safe what the instance itself calls so in Private Data Element Characteristics
    Sequence (0008,0300).
    """

    rows: Mapping[PrivateKey, str] = field(default_factory=lambda: MappingProxyType({}))
    honour_claims: bool = True

    @classmethod
    def read(cls, path: Path, *, honour_claims: bool = True) -> SafePrivate:
        """The rows of a file; raises InvalidSettings with every fault."""
        try:
            found = _File.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise InvalidSettings([f"{path}: {error.strerror or error}"]) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings([f"{path}: not JSON: {error}"]) from error
        except ValidationError as error:
            raise InvalidSettings([f"{path}: {_fault(each)}" for each in error.errors()]) from error
        rows: dict[PrivateKey, str] = {}
        faults: list[str] = []
        for number, row in enumerate(found.safe_private_attributes):
            key = PrivateKey(row.private_creator.strip(), int(row.group, 16), int(row.element_in_block, 16))
            vr = (row.vr or "UN").split("/")[0]
            if rows.setdefault(key, vr) != vr:
                faults.append(f"{path}: safe_private_attributes.{number}: the same attribute with another VR before")
        if faults:
            raise InvalidSettings(faults)
        return cls(MappingProxyType(rows), honour_claims)

    def identity(self) -> list[Any]:
        """What decides an outcome, in a fixed order."""
        return [self.honour_claims, sorted([*key, vr] for key, vr in self.rows.items())]


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"
