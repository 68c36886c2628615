"""Formats conversations as text with the chat template of a model.

A chat template is a Jinja program by the author of the model. It runs in a sandbox, in which it
can access only the messages, the special tokens and the date.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pretrained.packages import package
from jaxnn.typing import Any


def render(
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    answer: bool,
    names: Mapping[str, str],
) -> str:
    """Renders a conversation as text with a Jinja template.

    Raises:
      InvalidType: if a message has no role or no content.
      InvalidValue: if there is no template, or if the template rejects the messages.
    """
    if template is None:
        raise InvalidValue(
            "Tokenizer.chat",
            "the model has no chat template",
            got="a model that continues a text",
            expected="one with a chat_template, such as SmolLM2-Instruct",
            fix="Write the text by hand, and pass it to encode",
        )
    valid = not isinstance(messages, str | Mapping) and all(
        isinstance(x, Mapping) and isinstance(x.get("role"), str) and "content" in x
        for x in messages
    )
    if not valid:
        raise InvalidType(
            "Tokenizer.chat",
            "the messages have the wrong form",
            got=repr(messages)[:200],
            expected='[{"role": "user", "content": "..."}, ...]',
            fix="Write a dict with role and content for each message",
        )
    sandbox = package("jinja2.sandbox", "the model's chat template")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def refuse(words):
        raise ValueError(words)

    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(template).render(
            messages=list(messages), add_generation_prompt=answer, **names
        )
    except Exception as error:  # a template can raise any error
        raise InvalidValue(
            "Tokenizer.chat",
            "the template rejects the messages",
            got=f"{type(error).__name__}: {error}"[:300],
            expected="messages in the form that the author of the model documents",
            fix="Read tokenizer.template for the roles and their order",
        ) from None
