"""Pretrained models: weights that others have trained, as networks.

`load` reads a folder of Hugging Face's transformers, a file of safetensors, or a GGUF file of
llama.cpp; `save` writes such a folder; `download` fetches one from Hugging Face's hub.
"""

from jaxnn.pretrained._download import download
from jaxnn.pretrained._load import Pretrained, load
from jaxnn.pretrained._save import save
from jaxnn.pretrained.tokenizer import Tokenizer

__all__ = ["Pretrained", "Tokenizer", "download", "load", "save"]
