from __future__ import annotations

import pytest

from components.crop.annotations import AnnotatedImage, Defect
from components.crop.config import CropConfig
from components.crop.plan import count, folder_names, plan_crops, split_of
from components.errors import UserError


def image(path: str, *classes: str) -> AnnotatedImage:
    defects = tuple(Defect(name, (10 + 20 * i, 10, 20 + 20 * i, 20), 100) for i, name in enumerate(classes))
    return AnnotatedImage(path, (400, 300), defects)


def images(number: int, *classes: str) -> list[AnnotatedImage]:
    return [image(f"board {i}.png", *classes) for i in range(number)]


CONFIG = CropConfig(resolution=64)


def test_all_crops_of_an_image_are_on_one_side() -> None:
    plan = plan_crops(CONFIG, images(60, "open", "short", "open"))
    sides: dict[str, str] = {}
    for crop in plan.crops:
        assert sides.setdefault(crop.source, crop.split) == crop.split
    assert 10 < list(sides.values()).count("reference") < 32


def test_the_split_does_not_change_when_images_come_and_go() -> None:
    before = {c.source: c.split for c in plan_crops(CONFIG, images(40, "open")).crops}
    after = {c.source: c.split for c in plan_crops(CONFIG, images(90, "open")[7:]).crops}
    assert all(after[source] == before[source] for source in set(before) & set(after))


def test_another_seed_splits_otherwise() -> None:
    other = CropConfig(resolution=64, split_seed=1)
    paths = [f"{i}.png" for i in range(50)]
    assert [split_of(p, CONFIG) for p in paths] != [split_of(p, other) for p in paths]


def test_images_of_one_part_stay_together() -> None:
    config = CropConfig(resolution=64, same_part=r"part(\d+)")
    paths = [f"part{part:02d}_view{view}.png" for part in range(30) for view in range(4)]
    sides: dict[str, str] = {}
    for path in paths:
        part = path[:6]
        assert sides.setdefault(part, split_of(path, config)) == split_of(path, config)
    assert set(sides.values()) == {"train", "reference"}


def test_a_limit_keeps_the_same_crops_when_images_are_added() -> None:
    config = CropConfig(resolution=64, max_train_per_class=10, max_reference_per_class=4)
    before = plan_crops(config, images(60, "open"))
    after = plan_crops(config, images(66, "open"))
    assert count(before.crops) == count(after.crops) == {"open": {"train": 10, "reference": 4}}
    added = {f"board {i}.png" for i in range(60, 66)}
    gone = {c.file for c in before.crops} - {c.file for c in after.crops}
    assert len(gone) == len({c.source for c in after.crops} & added)
    assert sum(before.left_out["open"].values()) == 60 - 14


def test_classes_limits_and_areas_leave_out_and_say_so() -> None:
    data = [*images(30, "open", "short"), image("x.png", "open")]
    data[0] = AnnotatedImage("board 0.png", (400, 300), (*data[0].defects, Defect("open", (0, 0, 3, 3), 9)))
    data[1] = AnnotatedImage("board 1.png", (400, 300), (*data[1].defects, data[1].defects[0]))
    plan = plan_crops(CropConfig(resolution=64, classes=["open"], min_area=10), data)
    assert plan.classes == ["open"]
    assert len(plan.crops) == 31
    assert dict(plan.left_out["short"]) == {"not in the setting classes": 30}
    assert dict(plan.left_out["open"]) == {"smaller than 10 pixels": 1, "annotated twice": 1}


def test_file_names_are_unique_and_safe() -> None:
    data = [image(f"{folder}/same name.png", "a/b: c", "a/b: c", "a-b-c") for folder in range(40)]
    files = [crop.file for crop in plan_crops(CONFIG, data).crops]
    assert len({f.lower() for f in files}) == len(files) == 120
    assert all(f.count("/") == 1 and not set(f) & set(" :\\") for f in files)


def test_different_classes_have_different_folders() -> None:
    names = folder_names(["Kratzer", "kratzer", "خش", "划痕", "..", "a b", "a-b"])
    assert len({n.lower() for n in names.values()}) == 7
    assert names["Kratzer"] == "Kratzer"
    assert all(n.strip(".") for n in names.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["opne"]}, "crop.classes: no defect of class 'opne' in the data; known: open, short"),
        ({"prompts": {"spur": "x"}}, "crop.prompts: no defect of class 'spur' in the data"),
    ],
)
def test_an_unknown_class_is_named_with_the_known_ones(settings: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_crops(CropConfig(resolution=64, **settings), images(30, "open", "short"))
    assert message in str(caught.value)


def test_a_class_on_one_side_only_is_refused_with_its_counts() -> None:
    with pytest.raises(UserError) as caught:
        plan_crops(CONFIG, [*images(30, "open"), image("lonely.png", "rare")])
    assert "class rare: " in str(caught.value)
    assert "1 training crops and 0 reference crops" in str(
        caught.value
    ) or "0 training crops and 1 reference crops" in str(caught.value)
    assert "crop.split_seed (now 0)" in str(caught.value)


def test_data_without_a_defect_is_refused() -> None:
    with pytest.raises(UserError, match="no defect is annotated in its 5 images"):
        plan_crops(CONFIG, images(5))
