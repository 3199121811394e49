"""Training of the tiny base model: tokenizer, crops, exact resumption, export. A few steps of the real thing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.quickstart import train_base as command
from pipelines.quickstart import train_diffusion as diffusion
from pipelines.quickstart import train_vae as autoencoder
from pipelines.quickstart.adversary import Adversary
from pipelines.quickstart.corpus import MERGES, learn_merges, train_tokenizer
from pipelines.quickstart.crops import FOCUS, MIX, SIZE, Pictures
from pipelines.quickstart.export_base import crops_of_folder, reconstruction_errors
from pipelines.quickstart.networks import (
    build_text_encoder,
    build_unet,
    build_vae,
    load_tokenizer,
    parameters,
    token_ids,
)

pytestmark = pytest.mark.integration
COUNT = len(MIX) + 4


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few drawn pictures and the tokenizer."""
    folder = tmp_path_factory.mktemp("base-training")
    Pictures(folder, COUNT, 0)
    train_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def pictures(work: Path) -> Pictures:
    return Pictures(work, COUNT, 0)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def test_crops_repeat_by_key_and_differ_between_keys(pictures: Pictures) -> None:
    first, captions = pictures.crop_batch(6, 1, 2)
    again, captions_again = pictures.crop_batch(6, 1, 2)
    assert first.shape == (6, SIZE, SIZE, 3)
    assert np.array_equal(first, again)
    assert captions == captions_again
    assert not np.array_equal(first, pictures.crop_batch(6, 1, 3)[0])


def test_focused_crops_are_mostly_scans_under_their_exact_captions(pictures: Pictures) -> None:
    assert FOCUS.keys() == MIX.keys()
    assert sum(FOCUS.values()) == pytest.approx(1)
    _, captions = pictures.crop_batch(400, 1, 0, focused=True)
    assert set(captions) <= set(pictures.captions)
    share = np.mean([caption.startswith("a scan") for caption in captions])
    assert share == pytest.approx(FOCUS["scan"] + FOCUS["inverted scan"], abs=0.08)
    assert not set(pictures.crop_batch(400, 1, 0)[1]) <= set(pictures.captions)


def test_merges_take_the_most_frequent_pair_first_and_stop_when_words_are_whole() -> None:
    assert learn_merges(["ab ab ab ac"], 10) == [("a", "b</w>"), ("a", "c</w>")]
    assert len(learn_merges(["some words, many more words"], 3)) == 3


@pytest.mark.parametrize(
    "text", ["a photo of a pin-hole", "#screw@head@defect#", "Ünïcode 漢字 \U0001f600\n\t 1234", "", "\x00\x7f"]
)
def test_every_string_has_an_encoding(work: Path, text: str) -> None:
    tokenizer = load_tokenizer(work / "tokenizer")
    assert len(tokenizer) <= 512 + MERGES + 2
    ids = token_ids(tokenizer, [text])[0]
    assert ids.shape == (77,)
    assert ids[0] == tokenizer.bos_token_id
    inner = ids[1 : int((ids == tokenizer.eos_token_id).nonzero()[0])]
    assert tokenizer.unk_token_id not in inner.tolist()
    assert int(ids.max()) < build_text_encoder(tokenizer).config.vocab_size


def test_the_pooled_text_is_read_at_the_end_token(work: Path) -> None:
    tokenizer = load_tokenizer(work / "tokenizer")
    encoder = build_text_encoder(tokenizer).eval()
    ids = token_ids(tokenizer, ["a chip"])
    end = int((ids[0] == tokenizer.eos_token_id).nonzero()[0])
    with torch.no_grad():
        out = encoder(ids)
    assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, end])


def test_the_networks_have_the_documented_sizes(work: Path) -> None:
    assert parameters(build_vae()) == pytest.approx(0.68e6, rel=0.01)
    unet = build_unet()
    assert parameters(unet) == pytest.approx(5.5e6, rel=0.01)
    assert len(unet.down_blocks) == 4
    assert all(len(block.resnets) == 2 for block in unet.down_blocks)


@torch.no_grad()
def test_a_fresh_autoencoder_tells_even_colours_apart() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    colours = torch.tensor([[0.8, 0.8, 0.8], [0.2, 0.2, 0.2], [-0.8, 0.5, -0.5], [-0.5, -0.5, 0.8]])
    latents = vae.encode(colours[:, :, None, None].expand(-1, -1, SIZE, SIZE)).latent_dist.mode()
    centre = latents[:, :, 4, 4]
    distances = torch.cdist(centre, centre) + torch.eye(4) * 9
    assert float(distances.min()) > 0.1


def interrupted(pictures: Pictures, monkeypatch: pytest.MonkeyPatch, stage: int, after: int) -> None:
    """Let the crops of `stage` run out after some batches, as a killed process would."""
    original, calls = pictures.crop_batch, [0]

    def crop_batch(count: int, *key: int, **focus: bool):  # type: ignore[no-untyped-def]
        calls[0] += key[0] == stage
        if calls[0] > after:
            raise KeyboardInterrupt
        return original(count, *key, **focus)

    monkeypatch.setattr(pictures, "crop_batch", crop_batch)


def test_a_resumed_autoencoder_is_bit_identical(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "SAVE_EVERY_S", 0.0)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, _ = autoencoder.train_vae(pictures, tmp_path / "whole", 4, 2, 0)
    with monkeypatch.context() as patch:
        interrupted(pictures, patch, stage=0, after=2)
        with pytest.raises(KeyboardInterrupt):
            autoencoder.train_vae(pictures, tmp_path / "parts", 4, 2, 0)
    parts, _ = autoencoder.train_vae(pictures, tmp_path / "parts", 4, 2, 0)
    assert same(whole, parts)
    assert not same(whole, build_vae())


def test_a_resumed_and_prolonged_denoiser_is_bit_identical(
    work: Path, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusion, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(diffusion, "SHARDS", 2)
    monkeypatch.setattr(diffusion, "SHARD_CROPS", 8)
    monkeypatch.setattr(diffusion, "REDRAW_EVERY", 1)
    torch.manual_seed(0)
    vae, tokenizer = build_vae().eval().requires_grad_(False), load_tokenizer(work / "tokenizer")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = diffusion.train_diffusion(pictures, vae, tokenizer, tmp_path / "whole", (3, 2), 4, 0)
    with monkeypatch.context() as patch:
        interrupted(pictures, patch, stage=1, after=2)
        with pytest.raises(KeyboardInterrupt):
            diffusion.train_diffusion(pictures, vae, tokenizer, tmp_path / "parts", (3,), 4, 0)
    diffusion.train_diffusion(pictures, vae, tokenizer, tmp_path / "parts", (3,), 4, 0)
    parts = diffusion.train_diffusion(pictures, vae, tokenizer, tmp_path / "parts", (3, 2), 4, 0)
    assert same(whole[0], parts[0])
    assert same(whole[1], parts[1])
    assert whole[2] == parts[2]


def test_refining_the_decoder_leaves_the_latents_alone(pictures: Pictures, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, fresh = build_vae(), build_vae()
    fresh.load_state_dict(vae.state_dict())
    autoencoder.refine_decoder(vae, pictures, tmp_path, 2, 2, 0)
    assert same(fresh.encoder, vae.encoder)
    assert same(fresh.quant_conv, vae.quant_conv)
    assert not same(fresh.decoder, vae.decoder)


def test_a_resumed_refinement_is_bit_identical_adversary_and_all(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(autoencoder, "ADVERSARY_AFTER", 1)
    torch.manual_seed(0)
    fresh = build_vae()
    refined = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        vae = build_vae()
        vae.load_state_dict(fresh.state_dict())
        if name == "parts":
            with monkeypatch.context() as patch:
                interrupted(pictures, patch, stage=5, after=2)
                with pytest.raises(KeyboardInterrupt):
                    autoencoder.refine_decoder(vae, pictures, tmp_path / name, 4, 2, 0)
        autoencoder.refine_decoder(vae, pictures, tmp_path / name, 4, 2, 0)
        refined.append(vae)
    assert same(refined[0], refined[1])


def test_the_adversary_learns_to_tell_grain_from_its_absence() -> None:
    torch.manual_seed(0)
    adversary = Adversary()
    smooth = torch.zeros(8, 3, SIZE, SIZE)
    for _ in range(30):
        adversary.learn(smooth + 0.05 * torch.randn_like(smooth), smooth)
    assert adversary.verdict(smooth + 0.05 * torch.randn_like(smooth)).mean() > adversary.verdict(smooth).mean() + 0.5
    flat = torch.zeros(1, 3, SIZE, SIZE, requires_grad=True)
    adversary.loss(flat, torch.ones(1)).backward()
    assert flat.grad is not None
    assert flat.grad.abs().max() > 0
    assert all(p.grad is None or not p.requires_grad for p in adversary.network.parameters())


def test_blemishes_are_tints_and_specks_on_pure_areas() -> None:
    white, grey = torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    assert autoencoder.blemishes(white, white) == 0
    assert autoencoder.blemishes(white - 0.1, white) == pytest.approx(0.1)
    assert autoencoder.blemishes(grey + 0.1, grey) == 0
    tinted = grey + torch.tensor([0.1, 0.0, 0.0])[:, None, None]
    assert autoencoder.blemishes(tinted, grey) == pytest.approx(0.05)


def test_the_rate_restarts_lower_and_ends_at_zero() -> None:
    rates = [diffusion.cycle_factor(step, (400, 300)) for step in range(701)]
    assert max(rates[:400]) == pytest.approx(1, abs=0.2)
    assert rates[399] < 0.001
    assert 0.4 < max(rates[400:]) <= diffusion.RESTART
    assert rates[700] == 0


def test_averages_follow_the_weights_and_swap_back() -> None:
    network = torch.nn.Linear(2, 2, bias=False)
    average = diffusion.Average([network])
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    average.update(10)
    average.swap()
    assert torch.allclose(network.weight, before + 9 / 20)
    average.swap()
    assert torch.allclose(network.weight, before + 1)


def test_reconstruction_errors_of_a_perfect_and_a_wrong_autoencoder() -> None:
    class Through(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def encode(self, images: torch.Tensor):  # type: ignore[no-untyped-def]
            self.images = images
            return type("Out", (), {"latent_dist": type("Posterior", (), {"mode": lambda _: None})()})

        def decode(self, _: None):  # type: ignore[no-untyped-def]
            return type("Out", (), {"sample": self.images * self.factor})

    crops = np.random.default_rng(0).integers(0, 2, (4, SIZE, SIZE, 1)).repeat(3, axis=-1).astype(np.uint8) * 255
    perfect = reconstruction_errors(Through(1.0), crops)
    assert perfect.wrong_percent == 0
    assert perfect.psnr > 90
    assert perfect.texture == pytest.approx(1)
    negative = reconstruction_errors(Through(-1.0), crops)
    assert negative.wrong_percent == pytest.approx(100)
    assert negative.psnr == pytest.approx(0, abs=0.1)


def test_a_folder_without_pictures_to_evaluate_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no .jpg"):
        crops_of_folder(tmp_path, 4)


def test_a_wrong_evaluation_folder_stops_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(
            ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "o"), "--evaluate-on", str(tmp_path / "no")]
        )
    assert stopped.value.code == 2
    assert "no such folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_trains_exports_and_replaces(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "SHARDS", 1)
    monkeypatch.setattr(diffusion, "SHARD_CROPS", 8)
    out = tmp_path / "base"
    out.mkdir()
    (out / "old.txt").write_text("old")
    command.main([
        "--work", str(work), "--out", str(out), "--pictures", str(COUNT), "--vae-steps", "1", "--vae-batch", "2",
        "--decoder-steps", "1", "--steps", "1", "--batch", "2",
    ])  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    assert not (out / "old.txt").exists()
    options = f"--pictures {COUNT} --vae-steps 1 --vae-batch 2 --decoder-steps 1 --steps 1 --batch 2 --seed 0"
    assert options in (out / "README.md").read_text(encoding="utf-8")
    pipeline = StableDiffusionPipeline.from_pretrained(out, safety_checker=None)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
