"""A file of tokens in another dtype is refused, and one of 16-bit tokens never is."""

import numpy as np
import pytest

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams import tokens

# The sizes of vocabularies: bits, DNA, characters, bytes, GPT-2's, Llama 3's, and Gemma's.
SIZES = [2, 4, 65, 256, 50_257, 128_256, 262_144]


def drawn(size, count=20_000):
    """Returns tokens of which few are frequent, as in text."""
    return np.random.default_rng(size).zipf(1.2, count) % size


@pytest.mark.parametrize("dtype", ["<u4", "<i4", ">u4", "<i8", ">i8"])
@pytest.mark.parametrize("size", SIZES)
def test_wider_tokens_are_refused_and_read_with_their_dtype(size, dtype, tmp_path):
    path, content = tmp_path / "0.bin", drawn(size)
    content.astype(dtype).tofile(path)
    right = dtype.replace("<i4", "<u4")
    with pytest.raises(InvalidValue, match=f"0.bin, which holds numbers.*Pass dtype='{right}'"):
        tokens(path, 5)
    source = tokens(path, 5, dtype=right)
    assert len(source) == len(content) - 4
    np.testing.assert_array_equal(source[100]["inputs"], content[100:105])
    assert len(tokens(path, 5, dtype=np.uint16)) > len(source), "a given dtype is not questioned"


@pytest.mark.parametrize("size", [size for size in SIZES if size <= 2**16])
def test_tokens_of_16_bits_are_read(size, tmp_path):
    content = drawn(size).astype(np.uint16)
    content.tofile(tmp_path / "0.bin")
    np.testing.assert_array_equal(tokens(tmp_path, 5)[7]["inputs"], content[7:12])


def test_tokens_with_a_pattern_are_read(tmp_path):
    padded = np.zeros(20_000, np.uint16)
    padded[::1000] = 7  # all at even places
    for content in (np.zeros(5000), padded, np.arange(5000) % 8, np.arange(10), [5, 0, 5, 0]):
        np.asarray(content, np.uint16).tofile(tmp_path / "0.bin")
        tokens(tmp_path, 2)


@pytest.mark.parametrize("size", [2, 4, 65, 256])
def test_the_other_byte_order_is_refused(size, tmp_path):
    drawn(size).astype(">u2").tofile(tmp_path / "0.bin")
    with pytest.raises(InvalidValue, match="Pass dtype='>u2'"):
        tokens(tmp_path, 5)
    assert tokens(tmp_path, 5, dtype=">u2")[0]["inputs"].max() < size


def test_one_wrong_file_of_many_is_named(tmp_path):
    drawn(256).astype(np.uint16).tofile(tmp_path / "0.bin")
    drawn(256).astype(np.uint32).tofile(tmp_path / "1.bin")
    with pytest.raises(InvalidValue, match=r"1.bin, which holds"):
        tokens(tmp_path, 5)


def test_text_and_npy_files_are_refused(tmp_path):
    path = tmp_path / "0.bin"
    path.write_bytes(b"To be, or not to be: that is the question\n" * 9)
    with pytest.raises(InvalidValue, match="holds text.*Encode the text"):
        tokens(path, 5)
    assert tokens(path, 5, dtype=np.uint8)[0]["inputs"].tobytes() == b"To be"
    with path.open("wb") as file:
        np.save(file, drawn(256).astype(np.uint16))
    with pytest.raises(InvalidValue, match="begins as a .npy file.*Rename it to 0.npy"):
        tokens(path, 5)
    with pytest.raises(InvalidType, match="dtype=float32.*integers"):
        tokens(path, 5, dtype=np.float32)
