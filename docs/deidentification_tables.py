"""Writes the tables of ``gateway/deid/tables`` from public sources; run by hand for another edition of the standard.

``python -m docs.deidentification_tables PROFILE.json FOLDER``

PROFILE.json has Tables E.1-1 and E.3.4-1 of PS3.15 and CID 7050 as rows, FOLDER is ``highdicom/_standard`` of the PyPI
package highdicom (MIT): the modules of each IOD and the attributes of each module with their types.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

TABLES = Path(__file__).parent.parent / "gateway" / "deid" / "tables"
_STRENGTH = {"1": "1", "1C": "1", "2": "2", "2C": "2", "3": "3"}


def profile(source: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of PS3.15 in the form that the engine reads."""
    about = source["about"]
    options = [column for column in source["columns"] if column != "basic"]
    return {
        "standard": about["standard"],
        "edition": "2026d",
        "sources": [
            about["data_source"],
            "VR and keyword, CID 7050: pydicom 3.0.2 (MIT)",
            *(f"compared with {text}" for text in about["cross_checked"]),
        ],
        "rights": about["rights"],
        "options": options,
        "attributes": {
            row["tag"].strip("()").replace(",", "").lower(): [row["name"], row["vr"] or "UN", *_actions(row, options)]
            for row in source["table_e1_1"]
            if not row["tag"].startswith("(gggg")
        },
        "private_attributes": _actions(next(r for r in source["table_e1_1"] if r["tag"].startswith("(gggg")), options),
        "content_items": [
            [row["scheme"], row["code"], row["value_type"], row["meaning"], *_actions(row, options)]
            for row in source["table_e3_4_1_content_items"]
        ],
        "methods": {
            row["profile_key"]: [row["code"], row["meaning"]] for row in source["cid_7050_deidentification_method"]
        },
    }


def _actions(row: Mapping[str, Any], options: Iterable[str]) -> list[Any]:
    return [row["basic"], {option: row[option] for option in options if row.get(option)}]


def attribute_types(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of each module, the type of those attributes whose action depends on it; of each SOP class, its modules.

    An attribute in a sequence is named by the tags on the way to it, with dots between.
    """
    compound = {tag.upper() for tag, row in tables["attributes"].items() if "/" in row[2]}
    modules: dict[str, dict[str, str]] = {}
    for module, attributes in json.loads((folder / "module_attribute_map.json").read_text()).items():
        for attribute in attributes:
            names = [*attribute["path"], attribute["keyword"]]
            tags = [tag_for_keyword(name) for name in names]
            if attribute["type"] not in _STRENGTH or None in tags or f"{tags[-1]:08X}" not in compound:
                continue
            path = ".".join(f"{tag:08x}" for tag in tags)
            known = modules.setdefault(module, {})
            known[path] = min(known.get(path, "3"), _STRENGTH[attribute["type"]])
    iods = json.loads((folder / "iod_module_map.json").read_text())
    classes = json.loads((folder / "sop_class_iod_map.json").read_text())
    wanted = {
        uid: sorted({entry["key"] for entry in iods[iod] if entry["key"] in modules}) for uid, iod in classes.items()
    }
    used = {module for names in wanted.values() for module in names}
    return {
        "standard": "DICOM PS3.3: types of attributes (1C as 1, 2C as 2) whose action in PS3.15 depends on them",
        "sources": ["PyPI highdicom 0.28.2 (MIT), generated there from the DICOM standard"],
        "rights": "Tags, modules and types are facts of the DICOM Standard, (c) NEMA",
        "modules": {module: modules[module] for module in sorted(used)},
        "sop_classes": wanted,
    }


def _rows(value: Any, depth: int = 0) -> str:
    """JSON with one row a line, so that a change of the standard shows as such."""
    if depth < 2 and isinstance(value, dict):
        inner = ",\n".join(f"{json.dumps(key)}: {_rows(item, depth + 1)}" for key, item in value.items())
        return f"{{\n{inner}\n}}"
    if depth < 2 and isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
    return json.dumps(value)


def main(profile_file: Path, folder: Path) -> None:
    """Write both tables."""
    tables = profile(json.loads(profile_file.read_text()))
    (TABLES / "profile.json").write_text(_rows(tables) + "\n")
    (TABLES / "attribute_types.json").write_text(_rows(attribute_types(tables, folder)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
