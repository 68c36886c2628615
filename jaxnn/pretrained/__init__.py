"""Pretrained models: weights that others have trained, as networks.

`load` reads a folder of Hugging Face's transformers, a file of safetensors, or a GGUF file of
llama.cpp.
"""

from jaxnn.pretrained._load import Pretrained, load

__all__ = ["Pretrained", "load"]
