"""The operations guide names every metric, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.telemetry.host import HostCollector, Workers
from gateway.telemetry.metrics import Metrics

GUIDE = Path(__file__).parents[3] / "docs" / "operations.md"
_PART = re.compile(r"_(bucket|count|sum|created)$")


def test_the_guide_lists_every_metric_with_its_labels(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    families = [
        *Metrics().registry.collect(),
        *HostCollector("1", tmp_path, lambda: {"http": Workers(1, 1, 0)}).collect(),
    ]
    made = {family.name + {"counter": "_total", "info": "_info"}.get(family.type, "") for family in families}
    listed = set(re.findall(r"^\| `(gateway_[a-z_]+)", GUIDE.read_text(), re.MULTILINE))
    beside = set(re.findall(r"^\| .*?, `(gateway_[a-z_]+)[^|]*` \|", GUIDE.read_text(), re.MULTILINE))
    beside |= {"gateway_index_group_seconds"}  # said as `_group_seconds`
    assert made == {_PART.sub("", name) for name in listed | beside}
