"""Rewards by name, and plug-ins by the entry points of a package that is really installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from d3po_core import rewards
from d3po_core.errors import BadParams, BadReward, LibraryMissing
from d3po_core.rewards import KNOWN, load_reward, names

PLUG_IN = """
from d3po_core.errors import LibraryMissing

def width(device, times=1.0):
    return lambda images, prompts: [times * image.width for image in images]

def device_length(device):
    return lambda images, prompts: [len(device)] * len(images)

def broken(device):
    raise RuntimeError("no licence")

def lacking(device):
    raise LibraryMissing("The reward lacking needs the package scales.")
"""
ENTRY_POINTS = """[d3po.rewards]
width = plugged_in:width
device_length = plugged_in:device_length
broken = plugged_in:broken
lacking = plugged_in:lacking
absent = plugged_in:nothing
colourfulness = plugged_in:width
"""


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugged_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-in\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    (tmp_path / "plugged_in.py").write_text(PLUG_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def images(*widths: int) -> list[Image.Image]:
    return [Image.new("RGB", (width, 1)) for width in widths]


def test_the_rewards_of_the_library_are_listed_and_told() -> None:
    assert set(KNOWN) <= set(names())
    assert names() == sorted(names())
    assert all(known.says.endswith(".") for known in KNOWN.values())


@pytest.mark.usefixtures("plugged_in")
def test_a_plug_in_is_a_reward_with_parameters() -> None:
    assert "width" in names()
    assert load_reward("width").score(images(3, 5), ["a", "b"]) == [3, 5]
    assert load_reward("width", times=2, batch_size=1).score(images(3, 5), ["a", "b"]) == [6, 10]


@pytest.mark.usefixtures("plugged_in")
def test_a_plug_in_is_told_the_device() -> None:
    assert load_reward("device_length", device="cuda:1").score(images(1), ["a"]) == [6]


@pytest.mark.usefixtures("plugged_in")
def test_a_plug_in_cannot_replace_a_reward_of_the_library() -> None:
    assert names().count("colourfulness") == 1
    assert load_reward("colourfulness").score(images(3), ["a"]) == [0.0]


@pytest.mark.usefixtures("plugged_in")
@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("broken", {}, r"The plug-in broken \(plugged_in:broken\) cannot be loaded: RuntimeError: no licence"),
        ("absent", {}, "The plug-in absent .* AttributeError"),
        ("width", {"height": 2}, "The plug-in width .* TypeError: .*height"),
    ],
)
def test_a_plug_in_that_does_not_load_is_named(name: str, parameters: dict[str, int], says: str) -> None:
    with pytest.raises(BadReward, match=says):
        load_reward(name, **parameters)


@pytest.mark.usefixtures("plugged_in")
def test_what_a_plug_in_has_to_say_itself_is_left_alone() -> None:
    with pytest.raises(LibraryMissing, match="needs the package scales"):
        load_reward("lacking")


def test_an_unknown_reward_is_named_with_those_there_are() -> None:
    with pytest.raises(BadParams, match=r"There is no reward 'beauty'; there are .*colourfulness, compressibility"):
        load_reward("beauty")


def test_parameters_that_a_reward_does_not_take_are_named() -> None:
    with pytest.raises(
        BadParams, match=r"The reward colourfulness cannot be loaded with these parameters\. quality: Extra inputs"
    ):
        load_reward("colourfulness", quality=90)


def test_a_batch_has_at_least_one_image() -> None:
    with pytest.raises(BadParams, match="at least 1 image at once, not 0"):
        load_reward("colourfulness", batch_size=0)


@pytest.mark.parametrize("name", rewards.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rewards, name) is not None


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'beauty'"):
        rewards.beauty  # noqa: B018
