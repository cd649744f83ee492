"""How much of anything one arriving instance may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on reading one instance; wide enough for whole-slide images and large segmentations.

    ``inline_bytes`` and ``inline_binary_bytes`` decide what stands in the metadata itself and what behind a
    BulkDataURI: values of text and number VRs longer than the first, of byte VRs (OB, OW, UN, ...) longer than
    the second. A deflated data set may inflate to ``inflate_allowance_bytes`` or ``max_inflate_ratio`` times its
    size, whichever is more.

    Beyond ``dense_elements`` elements and items, they have to be ``min_bytes_per_element`` long on average, headers
    included: real data sets have 14 or more, and a stream of bare headers costs the most CPU for its size.
    """

    max_depth: int = 64
    max_elements: int = 4_000_000
    dense_elements: int = 100_000
    min_bytes_per_element: int = 12
    max_fragments: int = 4_000_000
    max_metadata_bytes: int = 256 << 20
    max_value_bytes: int = 1 << 40
    inline_bytes: int = 65_536
    inline_binary_bytes: int = 1_024
    max_inflate_ratio: int = 100
    inflate_allowance_bytes: int = 32 << 20
    max_file_meta_bytes: int = 1 << 20
