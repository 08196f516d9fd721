from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from d3po_core.demo_model import stage
from d3po_core.demo_model.background import background_of, seen_background
from d3po_core.demo_model.captions import COLOURS, KINDS, caption
from d3po_core.demo_model.compose import WIDE, backgrounds, compose
from d3po_core.demo_model.emoji import Emoji, is_held_out, random_caption
from d3po_core.demo_model.judge import background_accuracy, group_spread, load_judge, phrase_of
from d3po_core.demo_model.stage import Stage
from d3po_core.demo_model.text import MAX_TOKENS, new_text_encoder, new_tokenizer
from d3po_core.prompts import prompt_set

APPLE = Emoji("1F34E", "food-fruit", "red apple", "a red apple", "a fruit", "some food")
OWL = Emoji("1F989", "animal-bird", "owl", "an owl", "a bird", "an animal")


def square() -> torch.Tensor:
    """An opaque white square in the middle of nothing, premultiplied RGBA [1,4,64,64]."""
    rgba = torch.zeros(1, 4, 64, 64)
    rgba[:, :, 20:44, 20:44] = 1
    return rgba


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (None, "a fruit"),
        ("blue", "a fruit on a blue background"),
        ("orange", "a fruit on an orange background"),
    ],
)
def test_captions_read_as_english(colour: str | None, expected: str) -> None:
    assert caption("a fruit", colour) == expected


@pytest.mark.parametrize("colour", [None, *COLOURS])
def test_a_caption_can_be_taken_apart_again(colour: str | None) -> None:
    for kind, family in KINDS.values():
        for phrase in (kind, family):
            assert phrase_of(caption(phrase, colour)) == phrase
            assert background_of(caption(phrase, colour)) == colour


def test_random_captions_use_every_phrase_with_and_without_the_colour() -> None:
    import random

    rng = random.Random(0)
    seen = [random_caption(APPLE, "blue", rng) for _ in range(400)]
    assert set(seen) == {caption(phrase, colour) for phrase in APPLE.phrases() for colour in (None, "blue")}
    assert 0.4 < sum("background" in text for text in seen) / 400 < 0.6


def test_about_a_tenth_of_picture_and_colour_is_held_out_always_the_same() -> None:
    emoji = [Emoji(f"1F{k:03X}", "", "", "", "", "") for k in range(300)]
    verdicts = [is_held_out(e, colour) for e in emoji for colour in COLOURS]
    assert verdicts == [is_held_out(e, colour) for e in emoji for colour in COLOURS]
    assert 0.07 < sum(verdicts) / len(verdicts) < 0.13


def test_composites_have_the_range_and_the_background_they_were_asked_for() -> None:
    colour = torch.arange(len(COLOURS)).repeat(4)
    images = compose(torch.zeros(len(colour), 4, 64, 64), colour, torch.Generator().manual_seed(0))
    assert images.shape == (len(colour), 3, 64, 64)
    assert images.min() >= -1
    assert images.max() <= 1
    names = [seen_background(picture(image)) for image in images]
    right = sum(name == list(COLOURS)[k] for name, k in zip(names, colour.tolist(), strict=True))
    assert right >= 0.8 * len(names)


def test_a_composite_shows_its_emoji_somewhere_else_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    dark = torch.full((16,), list(COLOURS).index("red"))
    images = compose(square().expand(16, -1, -1, -1), dark, generator)
    white = (images > 0.9).all(dim=1)
    sizes = white.sum(dim=(1, 2)).float()
    assert (sizes > 150).all()
    assert len({tuple(mask.nonzero().float().mean(dim=0).round().tolist()) for mask in white}) > 8


def test_the_same_generator_draws_the_same_composites() -> None:
    colour = torch.tensor([1, 2, 3])
    first, second = (compose(square().expand(3, -1, -1, -1), colour, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert backgrounds(colour, torch.Generator().manual_seed(4), WIDE[2]).shape == (3, 3, 64, 64)


def test_background_accuracy_counts_only_prompts_that_name_one() -> None:
    blue, red = (Image.new("RGB", (64, 64), COLOURS[name]) for name in ("blue", "red"))
    prompts = ["a fruit on a blue background", "a fruit on a blue background", "a fruit"]
    assert background_accuracy([blue, red, red], prompts) == 0.5


def test_group_spread_is_the_mean_pixel_difference() -> None:
    grey = [Image.new("RGB", (8, 8), (value,) * 3) for value in (10, 20, 40)]
    assert group_spread(grey) == pytest.approx((10 + 30 + 20) / 3, abs=1e-3)
    assert group_spread([grey[0], grey[0]]) == 0


def test_the_tokenizer_knows_caption_words_and_spells_the_others() -> None:
    tokenizer = new_tokenizer([APPLE, OWL])
    tokens = tokenizer("an owl on a blue background", padding="max_length", return_tensors="pt").input_ids
    assert tokens.shape == (1, MAX_TOKENS)
    assert len(tokenizer.tokenize("an owl on a blue background")) == 6
    assert len(tokenizer.tokenize("zyx")) > 1
    assert tokenizer.unk_token_id not in tokenizer.encode("zyx", add_special_tokens=False)
    assert new_text_encoder(tokenizer)(tokens).last_hidden_state.shape == (1, MAX_TOKENS, 128)


class Killed(Exception):
    """What a test raises in place of a kill."""


def train(folder: Path, die_at: int | None = None) -> torch.Tensor:
    """Ten steps of a small model, on what each step's own seed draws; its weights."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    running = Stage("toy", folder, 10, model=model, optimizer=optimizer)
    for step in running.steps():
        if step == die_at:
            raise Killed
        loss = model(torch.randn(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running.report(loss=loss.item())
    return model.weight.detach().clone()


def test_a_killed_stage_continues_to_bitwise_equal_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = train(tmp_path / "a")
    monkeypatch.setattr(stage, "SAVE_EVERY_SECONDS", -1)
    with pytest.raises(Killed):
        train(tmp_path / "b", die_at=6)
    assert torch.load(tmp_path / "b" / "toy.pt", weights_only=True)["step"] == 6
    assert torch.equal(train(tmp_path / "b"), undisturbed)


def test_a_finished_stage_takes_no_step(tmp_path: Path) -> None:
    finished = train(tmp_path)
    assert torch.equal(train(tmp_path, die_at=9), finished)


def picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(((image + 1) * 127.5).byte().permute(1, 2, 0).numpy())


def test_every_demo_prompt_asks_for_something_that_the_shipped_judge_can_see() -> None:
    _, labels = load_judge()
    known = {phrase for phrases in labels for phrase in phrases}
    prompts = prompt_set("demo")
    assert {phrase_of(prompt) for prompt in (*prompts.prompts, *prompts.reserved)} <= known
