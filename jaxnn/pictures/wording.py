"""What is written on blocks, in few words, and which of them need a box of their own.

>>> minor_words(Block("activation_1", "activation", "relu")), shape_words((8, 28, 28, 1))
('relu', '28×28×1')
>>> title_and_text(Block("hidden_1", "linear", "64 nodes"))
('hidden 1', 'linear, 64 nodes')
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from jaxnn.pictures.parts import Block
from jaxnn.pictures.scheme import words
from jaxnn.pictures.sheet import fitted, width_of
from jaxnn.typing import Any

# What does little by itself is a line in the box of what it follows or precedes.
MINOR = (
    "activation", "batch_norm", "channels", "dropout", "flatten", "group_norm", "identity",
    "layer_norm", "rms_norm", "standardize", "stochastic_depth", "last", "mean_over_space",
    "max_pool", "avg_pool",
)  # fmt: skip


def shape_words(output: Any) -> str:
    """Returns a shape as words, without the batch."""
    if isinstance(output, tuple) and all(isinstance(size, int) for size in output):
        return "×".join(map(str, output[1:])) or "1"
    return "several"


def title_and_text(block: Block) -> tuple[str, str]:
    """Returns the name of a part, and what it is."""
    kind, name = words(block.kind), words(block.name)
    if name.isdigit() or not name or name.startswith(kind):
        return name if name and not name.isdigit() else kind, block.detail
    return name, ", ".join(filter(None, (kind, block.detail)))


def minor_words(block: Block) -> str:
    """Returns what a minor part does; nothing of one that only shapes numbers."""
    match block.kind:
        case "channels" | "identity":
            return ""
        case "activation":
            return block.detail
        case "dropout" | "stochastic_depth":
            rate = block.detail.removeprefix("rate ")
            return "" if rate == "0" else f"{words(block.kind)} {rate}".strip()
        case "last":
            return "last step"
    return f"{words(block.kind)} {block.detail}".strip()


def all_words(block: Block) -> str:
    """Returns all that a small part of a network does."""
    return ", ".join(f"{words(leaf.kind)} {leaf.detail}".strip() for leaf in leaves(block))


def flat(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yields blocks, in place of a container that says nothing what is inside of it."""
    for block in blocks:
        if block.kind == "serial" and len(block.blocks) == 1 and block.blocks[0].blocks:
            name = block.blocks[0].name if _is_plain(block.name) else block.name
            times = block.times * block.blocks[0].times
            yield from flat((block.blocks[0]._replace(name=name, times=times),))
        elif block.kind == "serial" and block.times == 1 and _is_plain(block.name):
            yield from flat(block.blocks)
        else:
            yield block


def _is_plain(name: str) -> bool:
    return name.isdigit() or name in ("", "body", "branch", "layers")


def leaves(block: Block) -> Iterator[Block]:
    """Yields the blocks that have none inside."""
    if not block.blocks:
        yield block
    for inner in block.blocks:
        yield from leaves(inner)


def depth_of(block: Block) -> int:
    """Returns how many frames and loops are around the innermost part, one in the other."""
    within = list(flat(block.blocks))
    if not within:
        return 0
    deepest = max(map(depth_of, within))
    alone = block.kind == "serial" and sum(inner.kind not in MINOR for inner in within) == 1
    return deepest + (not alone or not deepest)


def summary(block: Block) -> str:
    """Returns how many there are of what is inside of a container.

    >>> nodes = Block("a", "linear", "3 nodes")
    >>> summary(Block("b", "residual", blocks=(nodes, Block("shortcut", "identity"))))
    'residual: linear'
    """
    counts = Counter(words(leaf.kind) for leaf in leaves(block) if leaf.kind not in MINOR)
    kinds = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())
    return f"residual: {kinds}" if _has(block, "residual") else kinds


def _has(block: Block, kind: str) -> bool:
    return block.kind == kind or any(_has(inner, kind) for inner in block.blocks)


def wrapped(text: str, room: float) -> list[str]:
    """Returns a text in lines of at most `room` points, broken at plain spaces."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width_of(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(fitted(word, room))
    return lines
