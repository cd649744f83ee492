"""Every file of ../shared/dicom and of pydicom's wheel, rendered in several ways: a picture or a clear refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydicom.data import get_testdata_file

from storage.errors import StorageError
from tests.instances import SHARED, extract_file
from tests.serving import Gateway

pytestmark = [
    pytest.mark.dealt("local+sqlite"),
    pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom"),
    pytest.mark.xdist_group("rendered files"),
]

ASKED = (
    ("rendered", "*/*"),
    ("rendered", "image/gif"),
    ("rendered", "video/mp4"),
    ("rendered?annotation=patient,technique&viewport=300,300&window=40,400,sigmoid&iccprofile=srgb", "*/*"),
    ("thumbnail", "image/png"),
)


def instances() -> Iterator[tuple[Path, str]]:
    wheel = get_testdata_file("CT_small.dcm")
    assert isinstance(wheel, str)
    shared = (path for path in sorted(SHARED.rglob("*.dcm")) if "studies" not in path.parts)
    for path in (*shared, *sorted(Path(wheel).parent.glob("*.dcm"))):
        try:
            found = extract_file(path)
        except StorageError:
            continue  # cannot be stored: test_shared_files.py and test_hostile_input.py say which
        yield path, f"studies/{found.study_uid}/series/{found.series_uid}/instances/{found.sop_uid}"


@pytest.mark.timeout(600)
def test_every_instance_is_rendered_or_refused(running: Gateway) -> None:
    statuses: Counter[tuple[str, int]] = Counter()
    with requests.Session() as session:
        for path, place in instances():
            headers = {"Content-Type": "application/dicom"}
            answer = session.post(f"{running.web}/studies", path.read_bytes(), headers=headers, timeout=60)
            if answer.status_code != 200:
                continue
            for resource, accept in ASKED:
                answer = session.get(f"{running.web}/{place}/{resource}", headers={"Accept": accept}, timeout=120)
                assert answer.status_code in (200, 406), (path, resource, accept, answer.text[:300])
                statuses[f"{resource.partition('?')[0]} {accept}", answer.status_code] += 1
    assert statuses["rendered */*", 200] > 240
    assert statuses["thumbnail image/png", 200] > 140
    assert statuses["rendered video/mp4", 200] > 20
    assert "Traceback" not in running.log
