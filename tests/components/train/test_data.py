"""What the trainer draws from: order of crops, views, latents."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.artifacts import Crop
from components.errors import UserError
from components.train import batches, data, model
from components.train.average import Average
from components.train.config import TrainConfig


def test_every_crop_comes_once_a_pass_whatever_the_batch_size() -> None:
    for batch_size in (1, 4, 7, 40):
        stream = torch.cat([batches.batch_indices(10, batch_size, step, seed=3) for step in range(70)])
        for epoch in range(len(stream) // 10):
            assert Counter(stream[epoch * 10 : epoch * 10 + 10].tolist()) == Counter(range(10))


def test_order_depends_on_seed_and_pass_and_not_on_where_one_starts() -> None:
    stream = torch.cat([batches.batch_indices(10, 4, step, seed=3) for step in range(10)])
    assert torch.equal(batches.batch_indices(10, 4, 7, seed=3), stream[28:32])
    assert not torch.equal(batches.batch_indices(10, 10, 0, seed=3), batches.batch_indices(10, 10, 1, seed=3))
    assert not torch.equal(batches.batch_indices(10, 10, 0, seed=3), batches.batch_indices(10, 10, 0, seed=4))


def test_generators_of_different_keys_differ() -> None:
    draws = {tuple(torch.rand(3, generator=batches.generator(*key)).tolist()) for key in [(0,), (0, 1), (1, 0), (1,)]}
    assert len(draws) == 4


def test_each_pass_of_each_process_drops_out_something_of_its_own() -> None:
    def dropped(number: int, part: int, seed: int = 0) -> tuple[float, ...]:
        batches.seed_dropout(TrainConfig(seed=seed), number, part, torch.device("cpu"))
        return tuple(torch.rand(3).tolist())

    assert dropped(2, 0) == dropped(2, 0)
    assert len({dropped(2, 0), dropped(3, 0), dropped(2, 1), dropped(2, 0, seed=1)}) == 4


def test_the_eight_views_are_the_symmetries_of_the_square() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    views = [data.view(image, k) for k in range(8)]
    assert torch.equal(views[0], image)
    assert torch.equal(views[1], image.flip(-1))
    assert len({tuple(v.flatten().tolist()) for v in views}) == 8


def crop(name: str, text: str = "a") -> Crop:
    return Crop(file_name=name, text=text, defect="d", source="s.png", window=(0, 0, 8, 8), box=(0, 0, 4, 4))


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 200).save(tmp_path / "a.png")
    images = data.load_images(tmp_path, [crop("a.png")])
    assert images.shape == (1, 8, 8, 3)
    assert images.dtype == np.uint8
    assert (images == 200).all()


def test_every_bad_image_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (16, 8)).save(tmp_path / "wide.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        data.load_images(tmp_path, [crop(n) for n in ("a.png", "wide.png", "torn.png", "absent.png")])
    assert len(caught.value.problems) == 3
    for name in ("wide.png", "torn.png", "absent.png"):
        assert any(name in problem for problem in caught.value.problems)


def test_the_average_is_the_exponential_one() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    average = Average([parameter], decay=0.5)
    expected, values = torch.zeros(2), torch.arange(1.0, 31.0)
    for n, value in enumerate(values):
        with torch.no_grad():
            parameter.fill_(value)
        average.step()
        decay = min((1 + n) / (10 + n), 0.5) if n else 0.0
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.shadow[0], expected)
    again = Average([parameter], decay=0.5)
    again.restore(average.steps, average.shadow)
    for one in (average, again):
        one.step()
    assert torch.equal(average.shadow[0], again.shadow[0])


def test_masks_are_the_crops_own_or_their_boxes(tmp_path: Path) -> None:
    drawn = np.zeros((8, 8), np.uint8)
    drawn[1:3, 5] = 255
    Image.fromarray(drawn).save(tmp_path / "m.png")
    own = dataclasses.replace(crop("a.png"), mask_file_name="m.png")
    masks = data.load_masks(tmp_path, [own, crop("b.png")], 8)
    assert (masks[0] == (drawn > 0)).all()
    assert masks[1][:4, :4].all()
    assert masks[1].sum() == 16
    with pytest.raises(UserError, match="absent"):
        data.load_masks(tmp_path, [dataclasses.replace(own, mask_file_name="absent.png")], 8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (1, 40), (40, 1), (9, 3)])
def test_a_mask_is_kept_in_every_latent_that_it_touches(height: int, width: int) -> None:
    masks = np.zeros((64, 64, 64), dtype=bool)
    for i, mask in enumerate(masks):
        y, x = 8 + i // 8, 16 + i % 8
        mask[y : y + height, x : x + width] = True
    # By definition: a cell is eight pixels wide.
    expected = masks.reshape(64, 8, 8, 8, 8).any((2, 4))
    found = data.latent_mask(torch.from_numpy(masks)[:, None], (8, 8))
    assert found.dtype == torch.float32
    assert torch.equal(found[:, 0], torch.from_numpy(expected).float())


@pytest.mark.integration
def test_the_pixels_hidden_from_an_inpainting_model_are_those_that_its_mask_covers(tiny_base: Path) -> None:
    vae = model.load(tiny_base).vae
    masks = np.zeros((1, 64, 64), dtype=bool)
    masks[0, 20:24, 41:45] = True
    images = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    hidden = data.encode(vae, images, ["a"], "dihedral", torch.device("cpu"), masks).hidden
    assert hidden is not None
    for k in range(8):
        turned = data.view(torch.from_numpy(masks)[:, None], k)
        assert torch.equal(hidden.mask[:, k], data.latent_mask(turned, (8, 8)))
        assert hidden.mask[:, k].sum() == 1


@pytest.mark.integration
def test_large_crops_are_encoded_one_at_a_time(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, sizes = model.load(tiny_base).vae, []
    encode = vae.encode

    def watched(pixels: torch.Tensor) -> Any:
        sizes.append(tuple(pixels.shape))
        return encode(pixels)

    monkeypatch.setattr(vae, "encode", watched)
    for side, count, at_once in ((512, 2, 1), (256, 6, 4), (64, 3, 3)):
        images = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
        encoded = data.encode(vae, images, ["a"] * count, "none", torch.device("cpu"))
        assert max(shape[0] for shape in sizes) == at_once
        assert sum(shape[0] for shape in sizes) == count == len(encoded)
        sizes.clear()


def latents(inpaint: bool) -> data.LatentSet:
    shape = (6, 2, 4, 8, 8)
    mean = torch.arange(6.0)[:, None, None, None, None].expand(shape)
    hidden = None
    if inpaint:
        mask = torch.zeros(6, 2, 1, 8, 8)
        mask[..., :4, :4] = 1
        hidden = data.Hidden(mask, mean + 100, torch.zeros(shape), torch.full((4, 8, 8), -7.0))
    return data.LatentSet(mean, torch.zeros(shape), torch.tensor([0, 1] * 3), ["a", "b"], hidden)


def test_what_inpainting_shows_belongs_to_its_crop_or_is_blank() -> None:
    whole = 0
    for number in range(50):
        batch = batches.draw(latents(True), TrainConfig(train_batch_size=4), 1000, number)
        assert batch.shown is not None
        for clean, shown in zip(batch.clean, batch.shown):
            if shown[0].all():
                whole += 1
                assert (shown[1:] == -7).all()
            else:
                assert shown[0].sum() == 16
                assert torch.equal(shown[1:], clean + 100)
    assert 30 < whole < 70


def test_offset_noise_shifts_whole_images_and_leaves_the_other_draws() -> None:
    usual, offset = (
        batches.draw(latents(False), TrainConfig(train_batch_size=4, noise_offset=o), 1000, 3) for o in (0.0, 0.5)
    )
    shift = offset.noise - usual.noise
    assert shift.std((2, 3)).max() < 1e-6
    assert shift.abs().max() > 0.1
    for name in ("clean", "times", "prompt"):
        assert torch.equal(getattr(usual, name), getattr(offset, name))
