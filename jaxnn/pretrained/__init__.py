"""Pretrained models: `load` returns published weights as a `Network` and its parameters.

`load` reads a folder in the format of Hugging Face transformers, a safetensors file, or a GGUF
file of llama.cpp. `save` writes such a folder. `download` fetches one from the Hugging Face Hub.
"""

from jaxnn.pretrained._download import download
from jaxnn.pretrained._load import Pretrained, load
from jaxnn.pretrained._save import save
from jaxnn.pretrained.tokenizer import Tokenizer

__all__ = ["Pretrained", "Tokenizer", "download", "load", "save"]
