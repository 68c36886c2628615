"""Truncated, careless and hostile files: a clear error, before anything large is read."""

import json
import struct
from unittest.mock import patch

import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pretrained.gguf_file import read_gguf
from jaxnn.pretrained.safetensors_file import read_safetensors
from jaxnn.scale import memory
from tests.pretrained.files import (
    CONFIG,
    gguf_bytes,
    gguf_setting,
    gguf_tensor,
    safetensors_bytes,
    tensors_of,
    write_folder,
)
from tests.pretrained.peers import peer

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HUGE = 2**63 - 1
SAFETENSORS = {
    "empty": (b"", "too short"),
    "short": (b"\1\0\0", "too short"),
    "header_beyond_the_end": (
        safetensors_bytes({"a": F32}, length=10**6),
        "header exceeds the file",
    ),
    "header_of_exabytes": (safetensors_bytes({}, length=2**63), "header exceeds the file"),
    "header_not_json": (safetensors_bytes(b"{nonsense"), "not valid JSON"),
    "header_not_utf8": (safetensors_bytes(b'{"\xff": 1}'), "not valid JSON"),
    "header_a_list": (safetensors_bytes(b"[]"), "wrong form"),
    "header_too_deep": (safetensors_bytes(b"[" * 100_000), "nested too deeply"),
    "one_name_twice": (
        safetensors_bytes(b'{"a":{"dtype":"F32"},"a":{"dtype":"F32"}}'),
        "is repeated",
    ),
    "data_cut": (safetensors_bytes({"a": F32}, b"1234"), "too short or too long"),
    "data_left": (safetensors_bytes({"a": F32}, b"123456789"), "too short or too long"),
    "overlap": (safetensors_bytes({"a": F32, "b": F32}, b"12345678"), "overlaps"),
    "gap": (
        safetensors_bytes({"a": F32 | {"data_offsets": [4, 12]}}, b"123456789012"),
        "overlaps another, or leaves a gap",
    ),
    "size": (
        safetensors_bytes({"a": F32 | {"shape": [3]}}, b"12345678"),
        "does not match its shape",
    ),
    "backwards": (
        safetensors_bytes({"a": F32 | {"data_offsets": [8, 0]}}),
        "does not match its shape",
    ),
    "negative": (safetensors_bytes({"a": F32 | {"data_offsets": [-8, 0]}}), "no valid offsets"),
    "offsets_of_floats": (safetensors_bytes({"a": F32 | {"data_offsets": [0.0, 8]}}), "offsets"),
    "shape_negative": (safetensors_bytes({"a": F32 | {"shape": [-1, -2]}}), "no valid shape"),
    "shape_huge": (safetensors_bytes({"a": F32 | {"shape": [HUGE, 9]}}), "no valid shape"),
    "shape_overflows": (safetensors_bytes({"a": F32 | {"shape": [2**40, 2**40]}}), "too large"),
    "dtype": (safetensors_bytes({"a": F32 | {"dtype": "OBJECT"}}, b"12345678"), "no valid dtype"),
    "entry": (safetensors_bytes({"a": 3}), "no valid dtype"),
}
A = gguf_tensor("a", [2], 0)
GGUF = {
    "empty": (b"", "empty"),
    "magic": (b"PK\3\4" + b"\0" * 30, "does not begin with the GGUF"),
    "version": (gguf_bytes({}, [], version=9), "version is unknown"),
    "cut_in_the_counts": (b"GGUF\3\0\0\0\1", "ends within its counts"),
    "counts": (gguf_bytes({}, [], counts=(2**60, 2**60)), "counts exceed its size"),
    "setting_cut": (gguf_bytes({}, [], counts=(0, 2)), "ends within|unknown type|repeated"),
    "text_of_exabytes": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE) + b"name" * 9,
        "ends within",
    ),
    "list_of_exabytes": (
        gguf_bytes({}, [gguf_setting("x", [1])[:-12] + struct.pack("<Q", HUGE)], counts=(0, 1)),
        "ends within x",
    ),
    "list_of_lists": (
        gguf_bytes({}, [gguf_setting("x", [1])[:-16] + struct.pack("<IQ", 9, 1)], counts=(0, 1)),
        "list of lists",
    ),
    "setting_twice": (
        gguf_bytes({}, [gguf_setting("x", 1), gguf_setting("x", 1)], counts=(0, 2)),
        "x is repeated",
    ),
    "tensor_twice": (gguf_bytes({}, [A, A], b"0" * 64), "tensor a is repeated"),
    "data_cut": (gguf_bytes({}, [A], b"1234"), "ends within a"),
    "offset": (gguf_bytes({}, [gguf_tensor("a", [2], 2**40)], b"0" * 8), "ends within a"),
    "overlap": (gguf_bytes({}, [A, gguf_tensor("b", [2], 4)], b"0" * 64), "b overlaps another"),
    "axes": (gguf_bytes({}, [gguf_tensor("a", [1] * 9, 0)], b"0" * 64), "too many axes"),
    "shape": (gguf_bytes({}, [gguf_tensor("a", [2**40, 2**40], 0)]), "too large"),
    "alignment": (gguf_bytes({"general.alignment": 0}, [A], b"0" * 8), "alignment"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_are_not_valid_are_refused(name, tmp_path):
    contents, words = SAFETENSORS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(contents)
    with pytest.raises(InvalidValue, match=words):
        read_safetensors(path)


@pytest.mark.parametrize("name", GGUF)
def test_gguf_files_that_are_not_valid_are_refused(name, tmp_path):
    contents, words = GGUF[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(contents)
    with pytest.raises(InvalidValue, match=words):
        read_gguf(path)


@pytest.mark.parametrize("kind", [9, 15, 24, 28], ids=["Q8_1", "Q8_K", "I8", "F64"])
def test_gguf_types_that_cannot_be_dequantized_are_refused(kind, tmp_path):
    """Their sizes are known, but not their values."""
    sizes = peer("gguf").GGML_QUANT_SIZES
    path, (block, size) = tmp_path / "model.gguf", sizes[kind]
    path.write_bytes(gguf_bytes({}, [gguf_tensor("a", [block], 0, kind)], b"0" * size))
    with pytest.raises(InvalidValue, match="a has a data type that cannot be dequantized. Got Deq"):
        read_gguf(path)


def test_settings_of_gguf_that_are_no_lists_are_refused(tmp_path):
    settings = {"general.architecture": "llama", "tokenizer.ggml.tokens": 7}
    (tmp_path / "model.gguf").write_bytes(gguf_bytes(settings, []))
    refused(tmp_path / "model.gguf", "llama.embedding_length is missing")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    folder = write_folder(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    for end in range(0, len(whole), 97):
        (folder / "model.safetensors").write_bytes(whole[:end])
        refused(folder, "is corrupt")


def test_what_is_written_is_what_the_format_says(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(3, np.int64)}
    tensors["none"] = np.zeros((0, 4), np.float16)
    write_folder(tmp_path, tensors)
    loaded = library.load_file(tmp_path / "model.safetensors")
    library.save_file(tensors, tmp_path / "theirs.safetensors")
    ours, _ = read_safetensors(tmp_path / "theirs.safetensors")
    assert loaded.keys() == ours.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded[name], array)
        np.testing.assert_array_equal(ours[name].read(), array)


# --- The model as a whole ------------------------------------------------------------------------


def refused(folder, words, **options):
    """It is refused before any tensor is read, so that nothing is half loaded."""
    with (
        patch("jaxnn.pretrained._load._array", side_effect=AssertionError("a tensor is read")),
        pytest.raises(InvalidValue, match=words),
    ):
        pretrained.load(folder, **options)


def test_a_model_that_is_whole_loads(tmp_path):
    tensors = tensors_of()
    loaded = pretrained.load(write_folder(tmp_path, tensors))
    rows = loaded.params["tokens"]["weight"]
    np.testing.assert_array_equal(rows, tensors["model.embed_tokens.weight"])
    assert loaded.tokenizer is None and repr(loaded) == "Pretrained(llama, 1,216 parameters)"


CONFIGS = {
    "new_key": ({"attn_logit_softcapping": 30.0}, "attn_logit_softcapping=30.0"),
    "activation": ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu'"),
    "yarn": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        "the key original_max_position_embeddings is missing",
    ),
    "yarn_of_deepseek": (
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 8,
                "mscale": 0.7,
            }
        },
        "mscale=0.7",
    ),
    "longrope": (
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0]}},
        "rope_type='longrope'.*'default', 'linear', 'llama3', 'yarn'",
    ),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type='dynamic'"),
    "rope_key": ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "x": 1}}, "got x=1|x=1"),
    "rope_form": ({"rope_scaling": "linear"}, "rope_parameters is not valid"),
    "family": ({"model_type": "mamba"}, "model_type='mamba'"),
    "head": (
        {"architectures": ["LlamaForQuestions"]},
        "architecture is not supported",
    ),
    "masked_tokens": (
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        "BertForMaskedLM.*one of BertModel, BertForSequenceClassification",
    ),
    "missing": ({"hidden_size": None}, "hidden_size is not valid"),
    "text": ({"num_hidden_layers": "2"}, "num_hidden_layers is not valid"),
    "infinite": ({"rms_norm_eps": float("inf")}, "rms_norm_eps is not valid"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "huge": ({"vocab_size": 2**62}, "vocab_size is not valid"),
    "fewer_blocks": (
        {"num_hidden_layers": 1},
        "no place for a tensor",
    ),
    "no_biases": ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "query/bias"),
    "more_blocks": ({"num_hidden_layers": 3}, "no tensor for some arrays"),
    "other_shape": ({"intermediate_size": 16}, r"gate_proj.weight has the wrong shape.*\(8, 16\)"),
    "blocks_without_end": ({"num_hidden_layers": 10**9}, "num_hidden_layers is not valid"),
    "untied": ({"tie_word_embeddings": False}, "no tensor for output/weight"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_would_compute_something_else_is_refused(name, tmp_path):
    change, words = CONFIGS[name]
    refused(write_folder(tmp_path, config=CONFIG | change), words)


def test_tensors_without_a_use_are_refused(tmp_path):
    extra = {"model.layers.0.self_attn.sinks": np.ones(2, np.float32)}
    refused(write_folder(tmp_path, tensors_of() | extra), "does not use some tensors.*sinks")


def test_weights_that_are_not_floats_are_refused(tmp_path):
    eight = {"model.norm.weight": np.ones(8, np.int8)}
    refused(write_folder(tmp_path, tensors_of() | eight), "floating-point")


def test_pickles_are_refused(tmp_path):
    for name in ("pytorch_model.bin", "model.pt"):
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, "execute arbitrary code")
    refused(tmp_path, "a pickle can execute arbitrary code")
    refused(tmp_path / "nowhere", "path does not exist")


def test_what_is_near_the_weights_says_where_they_are(tmp_path):
    folder = write_folder(tmp_path / "model")
    refused(tmp_path, rf"Got {tmp_path} with model; .* such as '{folder}'")
    refused(folder / "config.json", rf"file type .json is not supported.* such as '{folder}'")
    (folder / "model.safetensors").rename(folder / "own.safetensors")
    refused(folder, rf"with config.json, own.safetensors; .* such as '{folder}/own.safetensors'")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "with none; .*Pass the folder that holds config.json")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_pointer_of_git_lfs_is_refused(name, tmp_path):
    write_folder(tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\nsize 90868376\n")
    refused(tmp_path / name, f"{name} is a pointer of Git LFS.*Run git lfs pull")


@pytest.mark.parametrize("dtype", [np.int8, "float31"], ids=["int8", "unknown"])
def test_a_dtype_that_is_not_of_floats_is_refused(dtype, tmp_path):
    with pytest.raises(InvalidType, match="not floating-point. Got dtype="):
        pretrained.load(write_folder(tmp_path), dtype=dtype)


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    write_folder(tmp_path)
    for text, words in (
        ("{", "valid JSON"),
        ("[" * 99_999, "nested too deeply"),
        ("3", "wrong form"),
    ):
        (tmp_path / "config.json").write_text(text)
        refused(tmp_path, words)
    (tmp_path / "config.json").unlink()
    refused(tmp_path, "there is no config.json")


@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_a_model_for_more_memory_than_there_is_is_refused_before_it_is_read(
    stacked, tmp_path, monkeypatch
):
    write_folder(tmp_path)
    monkeypatch.setattr(memory, "available", lambda device: 5500)
    words = "more memory than is free.*parameters take 4.86 kB"
    refused(tmp_path, words, stacked=stacked)


def test_an_index_that_leads_elsewhere_is_refused(tmp_path):
    write_folder(tmp_path / "model")
    index = tmp_path / "model" / "model.safetensors.index.json"
    for place, words in (
        ("../secret.safetensors", "missing file"),
        ("model.safetensors", "not those of the index"),
    ):
        index.write_text(json.dumps({"weight_map": {"a": place}}))
        refused(tmp_path / "model", words)
    index.write_text("{}")
    refused(tmp_path / "model", "no map of weights")
