"""Names of findings in one cell: separators, spelling, and names that are no class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from monai_anat.data.items import DatalistError

__all__ = [
    "LabelNames",
    "normalize_name",
    "told_counts",
]

_SEPARATORS = "|;,\n\t"
#: between findings that a reporter wrote in one phrase
_JOINTS = re.compile(r"\s*[/+&]\s*|\s+(?:and|und|et|y|e)\s+")
#: names for the absence of findings
_NO_FINDING = frozenset(("no finding", "no findings", "normal", "none", "negative", "healthy", "nil", "no abnormality"))
_SHOWN = 20


def normalize_name(name: str) -> str:
    """Return a name in small letters, with single blanks in place of blanks, underscores and hyphens.

    >>> normalize_name(" Pleural_Thickening ")
    'pleural thickening'
    """
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def told_counts(counts: Counter[str]) -> str:
    """Return the most common names with their counts, for a message.

    Args:
        counts: name -> number of images.

    >>> told_counts(Counter({"Normal": 3, "Effusions": 1}))
    "'Normal' x 3, 'Effusions' x 1"
    """
    told = ", ".join(f"{name!r} x {count}" for name, count in counts.most_common(_SHOWN))
    return f"{told}, ..." if len(counts) > _SHOWN else told


class LabelNames:
    """Finds the classes that cells name, and counts the names that are no class.

    Names are separated by ``|``, ``,``, ``;``, tabs or line breaks, unless a class name has that mark itself. Case,
    blanks, underscores and hyphens do not matter. A Python list in a cell counts as its names.

    Args:
        class_names: the classes.

    Attributes:
        found: name as written -> number of images, of classes and other names.
        unknown: name as written -> number of images, of names that are no class.

    Raises:
        ValueError: if two classes differ in case, blanks, underscores or hyphens only.

    >>> names = LabelNames(["Effusion", "Mass"])
    >>> sorted(names.classes_of("effusion; Mass")), sorted(names.classes_of("No Finding"))
    ([0, 1], [])
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self.numbers = {normalize_name(name): number for number, name in enumerate(class_names)}
        if len(self.numbers) != len(self.class_names):
            raise ValueError(
                f"class_names must differ in more than case, blanks, underscores and hyphens, got {self.class_names}"
            )
        marks = [mark for mark in _SEPARATORS if not any(mark in name for name in class_names)]
        self._separator = re.compile("|".join(map(re.escape, marks)) or r"(?!)")
        longest_first = sorted(self.numbers, key=len, reverse=True)
        self._inside = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
        self.found: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._ambiguous: Counter[str] = Counter()

    def parts(self, text: str) -> list[str]:
        """Split a cell into names.

        Args:
            text: the cell.
        """
        text = text.strip()
        if text[:1] + text[-1:] in ("[]", "()"):
            text = text[1:-1]
        return [part for piece in self._separator.split(text) if (part := piece.strip().strip("'\"").strip())]

    def classes_of(self, text: str) -> set[int]:
        """Return the numbers of the classes that a cell names.

        Args:
            text: the cell.
        """
        whole = self.numbers.get(normalize_name(text))
        parts = [text.strip()] if whole is not None else self.parts(text)
        self.found.update(dict.fromkeys(parts, 1))
        return {number for part in parts for number in self._classes_of_part(part)}

    def check(self) -> None:
        """Refuse names that contain a class name: whether they mean the class is ambiguous.

        Raises:
            DatalistError: if there are such names. The message counts them.
        """
        if self._ambiguous:
            raise DatalistError(
                f"a name must be a class or hold none as a part, got {told_counts(self._ambiguous)} for the classes "
                f"{self.class_names}; separate names by | , or ;, rename them, or add them to class_names"
            )

    def _classes_of_part(self, part: str) -> list[int]:
        name = normalize_name(part)
        if name in self.numbers:
            return [self.numbers[name]]
        if name in _NO_FINDING:
            return []
        if self._inside.search(name):
            pieces = [normalize_name(piece) for piece in _JOINTS.split(part.casefold())]
            if all(piece in self.numbers for piece in pieces):
                return [self.numbers[piece] for piece in pieces]
            self._ambiguous[part] += 1
            return []
        self.unknown[part] += 1
        return []
