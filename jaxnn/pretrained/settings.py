"""Reads the configuration of a model, and rejects keys that could change the numbers.

Each key is read by the family of the model, or is known not to affect inference, or is an error.
A model that loads therefore computes the same function as the original model.

>>> settings = Settings("config.json", {"hidden_size": 8, "hidden_act": "gelu", "use_cache": True})
>>> settings.integer("hidden_size"), settings.choice("hidden_act", {"gelu": "GELU"})
(8, 'GELU')
>>> settings.finish()
"""

import math
from collections.abc import Mapping
from typing import TypeVar

from jaxnn.checks import InvalidValue
from jaxnn.names import nearest
from jaxnn.typing import Any

T = TypeVar("T")
_REQUIRED = object()

# These keys affect training, generation or what a library returns, but not the network's outputs.
HARMLESS = {
    "_name_or_path", "_attn_implementation", "architectures", "model_type", "transformers_version",
    "torch_dtype", "dtype", "use_cache", "initializer_range", "layer_norm_init", "tokenizer_class",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id",
    "output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "problem_type",
    "id2label", "label2id", "num_labels", "finetuning_task", "gradient_checkpointing",
    "chunk_size_feed_forward", "keys_to_ignore_at_inference", "task_specific_params", "max_length",
    "min_length", "do_sample", "num_beams", "temperature", "top_k", "top_p", "repetition_penalty",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "classifier_dropout", "summary_first_dropout", "gguf",
    "model_max_length", "license", "language",
}  # fmt: skip
# Keys that any family may have, with the values that do not affect the outputs.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "torchscript": (False,),
    "use_bfloat16": (False,),
    "pretraining_tp": (1,),
    "quantization_config": (None,),
}


class Settings:
    """The keys of a configuration, with a record of the keys that have been read.

    `steps` lists what follows the model, as in the folders of sentence-transformers.
    """

    def __init__(self, source: str, values: Mapping[str, Any], steps: tuple[str, ...] = ()):
        self.source, self.values, self.read = source, dict(values), set[str]()
        self.steps = steps

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Returns the value of a key, and marks it as read; raises if a required key is missing."""
        self.read.add(name)
        value = self.values.get(name, default)
        if value is _REQUIRED:
            raise self.wrong(f"the key {name} is missing", "no such key", f"the key {name}")
        return value

    def integer(self, name: str, default: Any = _REQUIRED, most: int = 2**24) -> int:
        """Returns an integer from 1 to `most`."""
        value = self.take(name, default)
        value = default if value is None and default is not _REQUIRED else value
        if type(value) is not int or not 1 <= value <= most:
            expected = f"an integer from 1 to {most}"
            raise self.wrong(f"{name} is not valid", f"{name}={value!r}"[:200], expected)
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """Returns a finite, positive number."""
        value = self.take(name, default)
        valid = isinstance(value, int | float) and not isinstance(value, bool)
        if not valid or not (0 < value < math.inf):
            raise self.wrong(f"{name} is not valid", f"{name}={value!r}", "a positive number")
        return float(value)

    def layers(self, name: str) -> int:
        """Returns the number of blocks, an integer from 1 to 4096."""
        return self.integer(name, most=4096)

    def flag(self, name: str, default: bool) -> bool:
        """Returns a boolean value."""
        value = self.take(name, default)
        if type(value) is not bool:
            raise self.wrong(f"{name} is not valid", f"{name}={value!r}", "true or false")
        return value

    def choice(self, name: str, choices: Mapping[Any, T], default: Any = _REQUIRED) -> T:
        """Returns the entry of `choices` for the value of a key; raises if there is none."""
        value = self.take(name, default)
        if not isinstance(value, str | int | None) or value not in choices:
            expected = "one of " + ", ".join(map(repr, choices))
            raise self.wrong(f"this {name} is not supported", f"{name}={value!r}", expected)
        return choices[value]

    def architecture(self, choices: Mapping[str, T], default: str) -> T:
        """Returns the entry of `choices` for the only model class in `architectures`."""
        names = self.take("architectures", None) or [default]
        if not isinstance(names, list) or len(names) != 1 or names[0] not in choices:
            expected = "one of " + ", ".join(choices)
            raise self.wrong("this architecture is not supported", str(names)[:200], expected)
        return choices[names[0]]

    def expect(self, name: str, *allowed: Any) -> None:
        """Raises if a key is present and its value is not one of those allowed."""
        value = self.take(name, allowed[0])
        if not any(value == each and type(value) is type(each) for each in allowed):
            expected = " or ".join(map(repr, allowed)) + ", or no such key"
            raise self.wrong(f"this {name} is not supported", f"{name}={value!r}", expected)

    def finish(self) -> None:
        """Raises if there is an unread key that may affect the outputs of the network."""
        for name, allowed in NEUTRAL.items():
            self.expect(name, *allowed)
        left = sorted(self.values.keys() - self.read - HARMLESS)
        if left:
            near = nearest(left[0], self.read)
            raise InvalidValue(
                "pretrained.load",
                f"{self.source} has an unknown key, which may change the outputs",
                got=", ".join(f"{name}={str(self.values[name])[:80]}" for name in left[:5]),
                expected=f"known keys only, such as {', '.join(sorted(self.read)[:12])}",
                fix=f"Did you mean {near}?"
                if near
                else "Remove the key if it does not affect inference",
            )

    def wrong(self, what: str, got: str, expected: str) -> InvalidValue:
        """Returns the error for a configuration that is not supported."""
        return InvalidValue(
            "pretrained.load",
            f"in {self.source}, {what}",
            got=got,
            expected=expected,
            fix="Load a supported model, or build the network and use warm_start",
        )
