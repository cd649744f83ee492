"""The chart, rendered as Helm itself would, without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

CHART = Path(__file__).parents[2] / "helm" / "gateway"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Manifest = dict[str, Any]
Render = Callable[[dict[str, Any]], list[Manifest]]


def values_of(case: str) -> dict[str, Any]:
    """The values of a case."""
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    return found


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Values with others over them."""
    return {
        **values,
        **{
            key: merged(values.get(key, {}), value) if isinstance(value, dict) else value for key, value in more.items()
        },
    }


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as found:
        yield found


@pytest.fixture(scope="session")
def render(chart: Chart) -> Render:
    """Renders values into manifests."""

    def rendered(values: dict[str, Any]) -> list[Manifest]:
        files = chart.render(values, name="demo", namespace="imaging")
        return [
            manifest
            for path, text in sorted(files.items())
            if not path.endswith(".txt")
            for manifest in yaml.safe_load_all(text)
            if manifest
        ]

    return rendered


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manifests(case: str, render: Render) -> list[Manifest]:
    return render(values_of(case))


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Manifests of some kinds."""
    return [each for each in manifests if each["kind"] in kinds]


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by the name of their workload."""
    return {
        each["metadata"]["name"]: each["spec"]["template"] for each in of_kind(manifests, "Deployment", "StatefulSet")
    }
