"""Images in one folder per class, such as `cats/1.jpg`, `cats/2.jpg` and `dogs/1.png`.

Images are decoded on demand in the threads of the stream; Pillow releases the GIL while it decodes.
A JPEG that is much larger than the requested size is decoded at a reduced size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.streams.files import check_unchanged, size_and_time
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
        self._known = np.array([size_and_time(path) for path in paths])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        check_unchanged("images", self.paths[index], tuple(self._known[index].tolist()))
        image = _decode(self.paths[index], self.size, self.mode)
        return {"inputs": image, "labels": self.labels[index]}

    def place(self, index: int) -> str:
        """Returns the file of an image."""
        return str(self.paths[index])

    def fingerprint(self) -> str:
        """Returns a digest of the names and sizes of all files."""
        sizes = self._known[:, 0].tolist()
        files = [(*path.parts[-2:], size) for path, size in zip(self.paths, sizes)]
        return digest(files, self.size, self.mode)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Images({len(self):,} of {len(self.names)} classes, {height} x {width} {self.mode})"


def images(
    folder: Any,
    size: int | tuple[int, int],
    *,
    mode: str = "RGB",
    names: Sequence[str] | None = None,
) -> Images:
    """Opens a folder that contains one folder of images per class.

    Args:
      folder: the folder; its subfolders are the classes, numbered in the order of their names.
        Files and folders whose names begin with a dot are ignored.
      size: the height and width of the examples, or one number for both. Images are scaled to cover
        this size, and cropped to the centre.
      mode: the color mode: `"RGB"`, `"RGBA"`, or `"L"` for grayscale.
      names: the names of the classes in the order of their numbers. Pass the `names` of the
        training images to read other images, whose folder may not contain every class.

    Returns:
      A source whose examples are `{"inputs": [height, width, channels] uint8, "labels": int32}`.

    Raises:
      InvalidValue: if the folder does not exist, a class has no images or is not in `names`, or an
        argument is invalid.
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
    classes = sorted(x for x in root.iterdir() if x.is_dir() and not x.name.startswith("."))
    by_class = [sorted(filter(_is_image, each.rglob("[!.]*"))) for each in classes]
    empty = [each.name for each, paths in zip(classes, by_class) if not paths]
    if not classes or empty:
        raise InvalidValue(
            "images",
            f"there is no image of the class {empty[0]}" if empty else "there are no classes",
            got=f"{root / empty[0]}, without images" if empty else f"{root}, without subfolders",
            expected=f"a folder for each class with images in it ({', '.join(sorted(_SUFFIXES))})",
            fix="Remove the empty folder" if empty else "Move the images into FOLDER/CLASS/",
        )
    own = [each.name for each in classes]
    names = own if names is None else list(names)
    if unknown := [name for name in own if name not in names]:
        raise InvalidValue(
            "images",
            "a class is not one of the given names",
            got=f"{root / unknown[0]}",
            expected=f"folders with the names of {len(names)} classes",
            fix="Remove or rename the folder, or pass names that contain it",
        )
    numbers = np.array([names.index(name) for name in own], np.int32)
    labels = np.repeat(numbers, [len(x) for x in by_class])
    return Images(names, [x for paths in by_class for x in paths], labels, (height, width), mode)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def _decode(path: Path, size: Size, mode: str) -> np.ndarray:
    from PIL import Image, ImageOps  # slow to import, and only needed here

    wanted = size[1], size[0]
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would clip its values to bytes
            raise InvalidValue(
                "images",
                "an image has more than 8 bits in a channel",
                got=f"{path} of mode {image.mode}",
                expected="8 bits in each channel",
                fix="Convert it, or write a source whose examples are arrays of its values",
            )
        image.draft(mode, wanted)
        if image.mode != mode:
            image = image.convert(mode)
        if image.size != wanted:
            image = ImageOps.fit(image, wanted, Image.Resampling.BILINEAR)
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
