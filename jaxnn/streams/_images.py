"""Images in one folder per class, such as `cats/1.jpg`, `cats/2.jpg` and `dogs/1.png`.

Images are decoded on demand in the threads of the stream; Pillow releases the GIL while it decodes.
A JPEG that is much larger than the requested size is decoded at a reduced size.
"""

import os
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.streams.source import digest
from jaxnn.typing import Any

Size = tuple[int, int]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


class Images:
    """A source of images with their classes, as returned by `images`.

    Attributes:
      names: the names of the classes, in the order of their numbers.
      paths: the files of the images.
      labels: the number of the class of each image, int32 `[images]`.
    """

    def __init__(
        self, names: list[str], paths: list[Path], labels: np.ndarray, size: Size, mode: str
    ):
        self.names, self.paths, self.labels = names, paths, labels
        self.size, self.mode = size, mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = _decode(self.paths[index], self.size, self.mode)
        return {"inputs": image, "labels": self.labels[index]}

    def place(self, index: int) -> str:
        """Returns the file of an image."""
        return str(self.paths[index])

    def fingerprint(self) -> str:
        """Returns a digest of the names and sizes of all files."""
        files = [(*path.parts[-2:], os.path.getsize(path)) for path in self.paths]
        return digest(files, self.size, self.mode)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Images({len(self):,} of {len(self.names)} classes, {height} x {width} {self.mode})"


def images(folder: Any, size: int | tuple[int, int], *, mode: str = "RGB") -> Images:
    """Opens a folder that contains one folder of images per class.

    Args:
      folder: the folder; its subfolders are the classes, numbered in the order of their names.
      size: the height and width of the examples, or one number for both. Images are scaled to cover
        this size, and cropped to the centre.
      mode: the color mode: `"RGB"`, `"RGBA"`, or `"L"` for grayscale.

    Returns:
      A source whose examples are `{"inputs": [height, width, channels] uint8, "labels": int32}`.

    Raises:
      InvalidValue: if the folder does not exist, a class has no images, or an argument is invalid.
    """
    if mode not in ("RGB", "L", "RGBA"):
        raise InvalidValue(
            "images", "the mode is unknown", got=f"mode={mode!r}",
            expected="'RGB', 'RGBA' or 'L'", fix="Pass mode='RGB'",
        )  # fmt: skip
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    positive_integer("images", "size", height)
    positive_integer("images", "size", width)
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InvalidValue(
            "images", "there is no such folder", got=f"{root}",
            expected="a folder with a folder for each class", fix="Check the path",
        )  # fmt: skip
    classes = sorted(x for x in root.iterdir() if x.is_dir())
    by_class = [
        sorted(x for x in each.rglob("*") if x.suffix.lower() in _SUFFIXES) for each in classes
    ]
    empty = [each.name for each, paths in zip(classes, by_class) if not paths]
    if not classes or empty:
        raise InvalidValue(
            "images",
            f"there is no image of the class {empty[0]}" if empty else "there are no classes",
            got=f"{root / empty[0]}, without images" if empty else f"{root}, without subfolders",
            expected=f"a folder for each class with images in it ({', '.join(sorted(_SUFFIXES))})",
            fix="Remove the empty folder" if empty else "Move the images into FOLDER/CLASS/",
        )
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(x) for x in by_class])
    names = [each.name for each in classes]
    return Images(names, [x for paths in by_class for x in paths], labels, (height, width), mode)


def _decode(path: Path, size: Size, mode: str) -> np.ndarray:
    from PIL import Image, ImageOps  # slow to import, and only needed here

    wanted = size[1], size[0]
    with Image.open(path) as image:
        image.draft(mode, wanted)
        if image.mode != mode:
            image = image.convert(mode)
        if image.size != wanted:
            image = ImageOps.fit(image, wanted, Image.Resampling.BILINEAR)
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
