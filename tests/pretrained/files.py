"""Files of weights by hand: small models, and what hostile or careless hands make of them."""

import json
import struct

import numpy as np

from jaxnn.pretrained.safetensors_file import write_safetensors

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
    "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12, "vocab_size": 11,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
}  # fmt: skip


def tensors_of(layers=2, features=8, hidden=12, vocabulary=11):
    """The tensors of the model of `CONFIG`, random."""
    square, up, down = (features, features), (hidden, features), (features, hidden)
    shapes = {"model.embed_tokens.weight": (vocabulary, features), "model.norm.weight": (features,)}
    for n in range(layers):
        layer = {f"self_attn.{x}_proj": square for x in "qkvo"}
        layer |= {"mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": down}
        layer |= {"input_layernorm": (features,), "post_attention_layernorm": (features,)}
        shapes |= {f"model.layers.{n}.{name}.weight": shape for name, shape in layer.items()}
    draws = np.random.default_rng(0)
    return {name: draws.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def write_folder(folder, tensors=None, config=None):
    """Writes a folder that `load` reads, and returns it."""
    tensors = tensors_of() if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "model.safetensors").unlink(missing_ok=True)
    forms = {name: (x.shape, x.dtype) for name, x in tensors.items()}
    write_safetensors(folder / "model.safetensors", forms, iter(tensors.values()), {})
    return folder


def safetensors_bytes(header, data=b"", length=None):
    """The bytes of a file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_setting(name, value):
    """A setting with the type of its value: a text, a list of either, a whole number, a float."""
    if isinstance(value, str):
        return gguf_text(name) + struct.pack("<I", 8) + gguf_text(value)
    if isinstance(value, bool):
        return gguf_text(name) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return gguf_text(name) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return gguf_text(name) + struct.pack("<If", 6, value)
    texts = bool(value) and isinstance(value[0], str)
    items = b"".join(gguf_text(x) if texts else struct.pack("<i", x) for x in value)
    return gguf_text(name) + struct.pack("<IIQ", 9, 8 if texts else 5, len(value)) + items


def gguf_tensor(name, shape, offset, kind=0):
    sizes = b"".join(struct.pack("<Q", n) for n in reversed(shape))
    return (
        gguf_text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)
    )


def gguf_bytes(settings, entries, data=b"", counts=None, version=3):
    """The bytes of a file of settings, and of entries as of `gguf_tensor`."""
    counts = counts or (len(entries), len(settings))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts)
    head += b"".join(gguf_setting(*item) for item in settings.items()) + b"".join(entries)
    return head + b"\0" * (-len(head) % 32) + data


def write_gguf(path, settings, arrays):
    """Writes float32 tensors, one behind the other."""
    entries, data = [], b""
    for name, array in arrays.items():
        data += b"\0" * (-len(data) % 32)
        entries.append(gguf_tensor(name, array.shape, len(data)))
        data += array.astype("<f4").tobytes()
    path.write_bytes(gguf_bytes(settings, entries, data))
    return path
