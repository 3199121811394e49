"""What an evaluation keeps in the store for the next: features of real crops, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.evaluate.arrays import Arrays
from components.storage import Store

pytestmark = pytest.mark.integration


def test_features_of_real_crops_are_kept_by_what_made_them(tmp_path: Path, place: Store) -> None:
    from components.evaluate.real import features_key
    from components.extractor import Lite0

    lite0 = Lite0()
    key = features_key(lite0, ["a", "b"], 0)
    assert key == features_key(Lite0(), ["a", "b"], 0)
    assert key not in (features_key(lite0, ["b", "a"], 0), features_key(lite0, ["a", "b"], 1))
    lite0.record = {**lite0.record, "resizer": "another"}
    assert key != features_key(lite0, ["a", "b"], 0)

    arrays = Arrays(place)
    assert arrays.get("x") is None
    arrays.at("below").put("x", {"features": np.arange(6.0).reshape(2, 3)})
    found = arrays.get("below/x")
    assert found is not None
    assert np.array_equal(found["features"], [[0, 1, 2], [3, 4, 5]])
    place.put_bytes("below/x.npz", b"torn")
    assert arrays.get("below/x") is None
    nowhere = Arrays(None)
    nowhere.put("x", {})
    assert nowhere.at("y").get("x") is None
