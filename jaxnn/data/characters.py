"""Characters as tokens: the distinct characters of a text, numbered in sorted order.

>>> alphabet = Characters("to be or not")
>>> len(alphabet), alphabet.encode("boot").tolist(), alphabet.decode([1, 4, 4, 6])
(7, [1, 4, 4, 6], 'boot')
"""

from collections.abc import Iterable

import numpy as np

from jaxnn.checks import InvalidValue


class Characters:
    """A vocabulary of the distinct characters of a text, each of which is a token.

    Raises:
      InvalidValue: if the text is empty.
    """

    def __init__(self, text: str):
        self.all = "".join(sorted(set(text)))
        self._numbers = {character: number for number, character in enumerate(self.all)}
        if not text:
            raise InvalidValue(
                "Characters",
                "there are no characters",
                got="an empty text",
                expected="a text with all characters that are to be known",
                fix="Pass the text that is trained on",
            )

    def __len__(self) -> int:
        return len(self.all)

    def __repr__(self) -> str:
        return f"Characters({self.all!r})"

    def encode(self, text: str) -> np.ndarray:
        """Returns the token of each character, `[len(text)]`, in the smallest unsigned dtype.

        Raises:
          InvalidValue: if a character is not in the vocabulary.
        """
        unknown = sorted(set(text) - set(self.all))
        if unknown:
            raise InvalidValue(
                "Characters",
                "the text has characters that are not in the vocabulary",
                got="".join(unknown[:20]).__repr__(),
                expected=f"some of the {len(self)} in {self.all!r}",
                fix="Replace them, or make the vocabulary of both texts",
            )
        dtype = np.min_scalar_type(len(self) - 1)
        return np.array([self._numbers[character] for character in text], dtype)

    def decode(self, numbers: Iterable[int]) -> str:
        """Returns the text for a sequence of tokens.

        Raises:
          InvalidValue: if a number is not a token of the vocabulary.
        """
        numbers = [int(number) for number in numbers]
        outside = [number for number in numbers if not 0 <= number < len(self)]
        if outside:
            raise InvalidValue(
                "Characters",
                "a number is that of no character",
                got=f"{outside[0]}",
                expected=f"whole numbers from 0 to {len(self) - 1}",
                fix="Decode what was encoded with the same characters",
            )
        return "".join(self.all[number] for number in numbers)
