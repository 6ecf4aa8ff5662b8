"""`tilewright look`: a page that shows the real weights, needs nothing else and trusts no name; and what it says no to."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import pathlib
import re
import sys

import numpy as np
import pytest
from command_line import REFERENCE, Command, assert_wrong_input
from look_subjects import EXTENT, averaged, averaged_by_a_window, dense, picture, subject
from PIL import Image

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.graph import Graph, Input
from tilewright.engine.look.colours import heat, kernel_colours, png
from tilewright.engine.look.markup import tag
from tilewright.engine.look.page import Findings, Kernels, Maps, page
from tilewright.engine.look.study import NO_ACTIVATION, NO_CLASSES, NO_KERNELS, Wishes, study
from tilewright.engine.ops import pointwise
from tilewright.frontends.dsl import Model


@pytest.fixture
def photo(rng: np.random.Generator, tmp_path: pathlib.Path) -> pathlib.Path:
    Image.fromarray(rng.integers(0, 256, (*EXTENT, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def read_png(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2]))))


def test_kernels_are_the_weights_of_the_model(rng: np.random.Generator) -> None:
    found = study(subject(averaged, picture(rng)), Wishes(patch=9), "title").kernels
    assert found is not None and found.layer == "conv1" and found.colours
    np.testing.assert_array_equal(found.weights, averaged.parameters()["conv1.weight"][:, ::-1])
    tiles = [read_png(address) for address in images(page_of(kernels=found))[-8:]]
    for kernel, tile in zip(averaged.parameters()["conv1.weight"], tiles, strict=True):
        expected = 127.5 + 127.5 * kernel[::-1].transpose(1, 2, 0) / np.abs(kernel).max()
        np.testing.assert_allclose(tile, expected, atol=0.51)


def test_kernels_over_other_channels_are_grey(rng: np.random.Generator) -> None:
    weights = rng.standard_normal((5, 2, 3, 4))
    tiles = [read_png(address) for address in images(page_of(kernels=Kernels("first", weights, False)))[-10:]]
    assert all(tile.shape == (3, 4) for tile in tiles)
    np.testing.assert_allclose(tiles[3], kernel_colours(weights[1, 1]), atol=0.51)
    assert len(images(page_of(kernels=Kernels("first", np.zeros((200, 1, 2, 2)), False)))) == 1 + 1 + 96


def test_models_without_convolutions_have_the_occlusion_map(cli: Command, photo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ending = cli("look", "mlp", "--image", photo, "--resize", "28", "--order", "grey", "-o", tmp_path / "out.html", *REFERENCE)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert ending.code == 0 and NO_KERNELS in text and NO_ACTIVATION in text and "Occlusion map" in text
    assert "probabilities: softmax of output" in text and "Class activation" not in text


@pytest.mark.parametrize(("network", "said"), [(averaged, "softmax of output"), (averaged_by_a_window, "probabilities: output")])
def test_it_says_what_the_probabilities_are(network: Model, said: str, rng: np.random.Generator) -> None:
    assert said in " ".join(study(subject(network, picture(rng)), Wishes(patch=9), "title").facts)


def page_of(kernels: Kernels | None = None, **changes) -> str:
    plain = Findings("title", ["fact"], np.zeros((4, 5, 1)), [], [], kernels, [], [])
    return page(dataclasses.replace(plain, **changes))


def images(text: str) -> list[str]:
    return re.findall(r'<img src="([^"]*)"', text)


def test_models_without_classes_show_what_they_have(rng: np.random.Generator) -> None:
    found = study(subject(dense, picture(rng)), Wishes(), "title")
    assert found.notes == [NO_CLASSES] and not found.heats and not found.predictions and found.maps and found.kernels
    assert NO_CLASSES in page(found)
    with pytest.raises(tw.ModelError, match="--class 3: no output"):
        study(subject(dense, picture(rng)), Wishes(target=3), "title")
    with pytest.raises(tw.ModelError, match="there are 5 labels"):
        study(subject(dense, picture(rng)), Wishes(labels=list("abcde")), "title")


class Elements(html.parser.HTMLParser):
    """The elements of a page, their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.texts = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.texts += data


def test_names_are_text_and_nothing_else(rng: np.random.Generator) -> None:
    evil = "<script>alert('x')</script>&\x1b"
    found = study(subject(averaged, picture(rng)), Wishes(labels=[evil] * 7, patch=9), evil)
    named = dataclasses.replace(
        found,
        facts=[evil],
        kernels=Kernels(evil, np.ones((2, 3, 3, 3)), True),
        maps=[Maps(evil, evil, np.ones((2, 3, 3)), [0])],
        notes=[evil],
    )
    text = page(named)
    parsed = Elements(text)
    assert "script" not in parsed.elements and "<script" not in text and "\x1b" not in text
    assert parsed.texts.count("<script>alert('x')</script>&\\x1b") >= 10


def test_attributes_are_text_too() -> None:
    assert tag("img", alt='"><b onload="x">', class_="a") == '<img alt="&quot;&gt;&lt;b onload=&quot;x&quot;&gt;" class="a">'


def test_the_page_needs_nothing_else(cli: Command, photo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ending = cli("look", "resnet18", "--image", photo, "--resize", "32", "--scale", "0.01", "-o", tmp_path / "out.html", *REFERENCE)
    assert ending == (0, "", "")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    parsed = Elements(text)
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert not {"script", "link", "iframe", "object"} & set(parsed.elements)
    assert len(parsed.addresses) > 60 and all(a.startswith("data:image/png;base64,") for a in parsed.addresses)
    assert "What resnet18 sees in photo.png" in parsed.texts and "Occlusion map" in parsed.texts and "prefers-color-scheme" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.html", "photo.png"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--image", "{photo}", "--resize", "32", "--layer", "layer9.conv"], ["no layer named 'layer9.conv'", "'layer3.1.conv1'"]),
        (["--image", "{photo}", "--resize", "32", "--class", "1000"], ["--class", "from 0 to 999"]),
        (["--image", "{photo}", "--image", "{photo}"], ["expected one picture, got 2"]),
        ([], ["expected one picture, got 0", "--image FILE"]),
        (["--image", "{photo}", "--order", "grey"], ["image: f32[batch,3,height,width]: got f32[1,1,11,13]"]),
        (["--image", "{folder}/absent.png"], ["no such file"]),
        (["--image", "{photo}", "--labels", "{folder}/absent.txt"], ["cannot read labels"]),
        (["--image", "{photo}", "-o", "{folder}/out.txt"], ["ends in .html"]),
        (["--image", "{photo}", "-o", "{folder}/absent/out.html"], ["there is no folder"]),
    ],
)
def test_wrong_input(options: list[str], said: list[str], cli: Command, photo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    given = [option.format(photo=photo, folder=tmp_path) for option in options]
    assert_wrong_input(cli("look", "resnet18", "-o", tmp_path / "out.html", *given, *REFERENCE), *said)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png"]


def test_without_pillow(cli: Command, photo: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert_wrong_input(cli("look", "lenet5", "--image", photo, "-o", tmp_path / "out.html"), 'pip install "tilewright[image]"')


def test_models_that_take_no_picture(cli: Command, photo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    x = Input(name="x", shape=(1, 5))
    text_only = tmp_path / "flat.onnx"
    content = plugins.load("frontends", "onnx.export")(Graph((x,), (pointwise("relu", x),), ("y",)))
    text_only.write_bytes(content.SerializeToString())
    assert_wrong_input(cli("look", text_only, "--image", photo, "-o", tmp_path / "out.html"), "expected one input of rank 4", "x: f32[1,5]")


def test_heat_leaves_zero_alone_and_tells_signs_apart() -> None:
    pixels = np.full((1, 3, 3), 100.0)
    found = heat(pixels, np.array([[0.0, 2.0, -2.0]]), 2.0)[0]
    assert np.ptp(found[0]) == 0 and found[1, 0] > found[1, 2] and found[2, 2] > found[2, 0]
    assert read_png(png(found[None])).shape == (1, 3, 3)
    assert np.isfinite(heat(pixels, np.zeros((1, 3)), 0.0)).all()
