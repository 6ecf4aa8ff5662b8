"""Pictures become model inputs as the models were trained: sizes, channel order, normalisation, layout, file formats."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from tilewright.engine.errors import MachineError, ModelError
from tilewright.engine.images import Preprocessing, pixels_of, read_picture

REAL_MODELS = pathlib.Path(__file__).parents[2] / "shared" / "models"
PLAIN = Preprocessing()


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.fixture
def picture(pixels: np.ndarray, tmp_path: pathlib.Path) -> pathlib.Path:
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_rgb_as_it_is(picture: pathlib.Path, pixels: np.ndarray) -> None:
    made = read_picture(picture, PLAIN)
    assert made.dtype == np.float32 and made.flags.c_contiguous
    np.testing.assert_array_equal(made, pixels.transpose(2, 0, 1)[None])


def test_mean_and_std_are_in_the_models_channel_order(picture: pathlib.Path, pixels: np.ndarray) -> None:
    how = Preprocessing(order="bgr", scale=0.5, mean=(1, 2, 3), std=(2, 4, 8), layout="nhwc")
    blue, green, red = (pixels[:, :, i].astype(np.float64) for i in (2, 1, 0))
    expected = np.stack([(blue / 2 - 1) / 2, (green / 2 - 2) / 4, (red / 2 - 3) / 8], -1)
    np.testing.assert_allclose(read_picture(picture, how), expected[None], rtol=1e-6)


@pytest.mark.parametrize(
    "how", [PLAIN, Preprocessing(order="bgr", scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1)), Preprocessing(layout="nhwc")]
)
def test_the_way_back_to_pixels(how: Preprocessing, picture: pathlib.Path, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels_of(read_picture(picture, how)[0], how), pixels)


def test_grey(picture: pathlib.Path, pixels: np.ndarray) -> None:
    made = read_picture(picture, Preprocessing(order="grey"))
    assert made.shape == (1, 1, 6, 9)
    np.testing.assert_allclose(made[0, 0], pixels @ [0.299, 0.587, 0.114], atol=1)


def test_a_grey_file_fills_three_channels(pixels: np.ndarray, tmp_path: pathlib.Path) -> None:
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png", PLAIN)[0], np.stack([pixels[:, :, 0]] * 3))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    deep = rng.integers(0, 65536, (4, 5), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png", Preprocessing(order="grey"))[0, 0], deep >> 8)


def test_transparency_is_dropped(pixels: np.ndarray, tmp_path: pathlib.Path) -> None:
    alpha = np.arange(54, dtype=np.uint8).reshape(6, 9, 1)
    Image.fromarray(np.concatenate([pixels, alpha], 2), "RGBA").save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "clear.png", PLAIN)[0], pixels.transpose(2, 0, 1))


def test_a_camera_held_sideways(pixels: np.ndarray, tmp_path: pathlib.Path) -> None:
    stored = Image.fromarray(pixels)
    about = stored.getexif()
    about[0x0112] = 6  # shown turned by 90 degrees clockwise
    stored.save(tmp_path / "sideways.png", exif=about)
    np.testing.assert_array_equal(read_picture(tmp_path / "sideways.png", PLAIN)[0], np.rot90(pixels, -1).transpose(2, 0, 1))


def test_resize_and_crop(picture: pathlib.Path, pixels: np.ndarray) -> None:
    cropped = read_picture(picture, Preprocessing(crop=(5, 4)))
    np.testing.assert_array_equal(cropped[0], pixels[1:5, 2:7].transpose(2, 0, 1))
    assert read_picture(picture, Preprocessing(resize=(4, 3))).shape == (1, 3, 3, 4)
    assert read_picture(picture, Preprocessing(resize_short=12)).shape == (1, 3, 12, 18)
    assert read_picture(picture, Preprocessing(resize_short=4)).shape == (1, 3, 4, 6)
    short = Image.fromarray(pixels).resize((18, 12), Image.Resampling.BILINEAR)
    expected = np.asarray(short)[1:11, 4:14].transpose(2, 0, 1)
    np.testing.assert_array_equal(read_picture(picture, Preprocessing(resize_short=12, crop=(10, 10)))[0], expected)


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", [0, 3, 250]), ("int8", [-5, 3, 127]), ("float16", [-5.3, 2.7, 249.7])])
def test_dtypes(dtype: str, expected: list[float], tmp_path: pathlib.Path) -> None:
    Image.fromarray(np.array([[0, 8, 255]], np.uint8)).save(tmp_path / "line.png")
    made = read_picture(tmp_path / "line.png", Preprocessing(order="grey", mean=(5.3,)), np.dtype(dtype))
    assert made.dtype == dtype
    np.testing.assert_allclose(made.ravel().astype(float), expected, rtol=1e-3)


def test_what_is_no_picture(tmp_path: pathlib.Path, picture: pathlib.Path) -> None:
    (tmp_path / "noise.png").write_bytes(bytes(range(256)))
    (tmp_path / "half.png").write_bytes(picture.read_bytes()[:120])
    for name, reason in {"noise.png": "cannot be read", "half.png": "cannot be read", "none.png": "no such file"}.items():
        with pytest.raises(ModelError, match=reason):
            read_picture(tmp_path / name, PLAIN)
    with pytest.raises(ModelError, match="cannot crop 10x3 out of 9x6"):
        read_picture(picture, Preprocessing(crop=(10, 3)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "rbg"},
        {"layout": "chw"},
        {"mean": (1, 2)},
        {"std": (1, 2, 3), "order": "grey"},
        {"std": (1, 0, 1)},
        {"scale": 0.0},
        {"resize": (4, 4), "resize_short": 4},
        {"crop": (0, 4)},
    ],
)
def test_contradictions_are_refused(wrong: dict) -> None:
    with pytest.raises(ModelError):
        Preprocessing(**wrong)


def test_without_pillow_it_says_what_to_install(picture: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MachineError, match=r'pip install "tilewright\[image\]"'):
        read_picture(picture, PLAIN)


@pytest.mark.skipif(not REAL_MODELS.is_dir(), reason="the collection of real models lies beside the repository only where it was fetched")
@pytest.mark.parametrize(
    ("case", "photo", "short"),
    [
        ("squeezenet_fp32_derived.kitten", "kitten_224.png", 224),
        ("squeezenet_fp32_derived.hummingbird", "winml_hummingbird.jpg", 256),
        ("SqueezeNet_fp16.dog", "winml_dog.jpg", 256),
        ("SqueezeNet_fp16.pelican", "wonnx_pelican.jpeg", 256),
    ],
)
def test_real_pictures_give_the_stored_inputs(case: str, photo: str, short: int) -> None:
    stored = np.load(REAL_MODELS / "refs" / f"{case}.npz")
    expected = (stored["in0_u8"].astype(np.float32) - stored["in0_sub"]) / stored["in0_div"]
    how = Preprocessing(resize_short=short, crop=(224, 224), order="bgr", mean=(104, 117, 123))
    for dtype in (np.float32, np.float16):
        made = read_picture(REAL_MODELS / "photos" / photo, how, np.dtype(dtype))
        np.testing.assert_array_equal(made, expected.astype(dtype))
