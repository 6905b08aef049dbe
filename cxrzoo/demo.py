"""One radiograph through one model, in words and pictures."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.embedding import digest_embedding
from cxrzoo.errors import DiskError
from cxrzoo.imaging import read_image
from cxrzoo.loader import load
from cxrzoo.registry import describe, list_models

_HEIGHT = 768  # of the pictures, in pixels
_ORIGINS = {
    "folder": "from the given folder",
    "checkout": "from this checkout",
    "cache": "from the cache, where it was verified before",
    "hub": "from the Hub",
    "authors": "converted just now from what its authors released",
}


def show(name: str, image: str, out: Path) -> None:
    """Load a model, embed one image, say what came of it, and write three pictures into the folder `out`.

    Raises:
        CxrZooError: The model or the image can't be used.
    """
    import torch

    start = time.perf_counter()
    model = load(name)
    loaded = time.perf_counter() - start
    provenance = model.provenance
    _say(f"model      {provenance.model}, {_ORIGINS[provenance.origin]} ({loaded:.1f} s)")
    if name in list_models():
        _say(f"           {describe(name).summary}")
        _say(f"           {describe(name).source}")
    _say(f"weights    sha256 {provenance.weights_sha256}")
    radiograph = read_image(image)
    _say(f"radiograph {radiograph.shape[1]} × {radiograph.shape[0]} pixels, grey, air dark, in [0, 1]")
    tensor = model.transform(image)
    _say(
        f"transform  {provenance.preprocessing!r}: {tuple(tensor.shape)}, digest {provenance.preprocessing_sha256[:16]}"
    )
    with torch.inference_mode():
        features = model.forward_features(tensor[None])[0].numpy()  # type: ignore[operator]
        embedding = model(tensor[None])[0].numpy()
    first = " ".join(f"{value:.4f}" for value in embedding[:6])
    _say(f"embedding  {embedding.shape}, first values {first} …")
    _say(f"           digest {digest_embedding(embedding)}")
    seen = model.transform.display(image)
    pictures = {
        "1-radiograph-as-read.png": (radiograph * 255).round().astype(np.uint8),
        "2-what-the-network-sees.png": seen,
        "3-feature-map-pca.png": lay_over(draw_features(features), seen),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, pixels in pictures.items():
            _enlarge(pixels).save(out / file)
            _say(f"picture    {out / file}")
        _say("           in the last one, places of one colour look alike to the network; which colour means nothing")
    except OSError as error:
        raise DiskError(f"the pictures can't be written to {out}: {error.strerror}. Choose another folder.") from error


def draw_features(features: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a feature map (C, h, w) as a picture (h, w, 3): its first three principal components as red, green, blue.

    Places of one colour look alike to the network. The colours themselves mean nothing.
    """
    channels, height, width = features.shape
    pixels = features.reshape(channels, -1).T
    pixels = pixels - pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(pixels, full_matrices=False)
    # the sign of an axis is arbitrary; a fixed choice gives one picture on every machine
    axes = axes[:3] * np.sign(axes[:3].sum(axis=1, keepdims=True))
    components = pixels @ axes.T
    low, high = np.percentile(components, [1, 99], axis=0)
    scaled = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    picture: NDArray[np.uint8] = (scaled.reshape(height, width, -1) * 255).round().astype(np.uint8)
    return picture


def lay_over(colours: NDArray[np.uint8], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a small picture (h, w, 3) stretched over a grey one (H, W), half as strong as it: (H, W, 3)."""
    height, width = grey.shape
    stretched = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(Image.blend(Image.fromarray(grey).convert("RGB"), stretched, 0.5))


def _enlarge(pixels: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(pixels)
    return picture.resize((round(picture.width * _HEIGHT / picture.height), _HEIGHT), Image.Resampling.BICUBIC)


def _say(line: str) -> None:
    print(line)  # noqa: T201 - the demo is a command, its words are its result
