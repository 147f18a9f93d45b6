"""Griffe extension: docstrings written for reStructuredText and doctest, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|obj):`~?([^`<]+)`")
MATH = re.compile(r":math:`([^`]+)`")
MATH_BLOCK = re.compile(r"^( *)\.\. math::[ ]*(.*)\n((?:\1[ ]+\S.*\n|\s*\n(?=\1[ ]+\S))*)", re.MULTILINE)
PACKAGE = "monai_anat"


def fence_examples(text: str) -> str:
    """Put every doctest block (from ``>>>`` to the next blank line) into a fence."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        if not fence and line.lstrip().startswith(">>>"):
            indent = line[: len(line) - len(line.lstrip())]
            if lines and lines[-1].strip():
                lines.append("")
            lines.append(f"{indent}```pycon")
            fence = f"{indent}```"
        elif fence and not line.strip():
            lines.append(fence)
            fence = ""
        lines.append(line)
    return "\n".join([*lines, fence] if fence else lines)


def markdown_of(text: str, public: dict[str, str]) -> str:
    """The docstring with roles, equations and examples in Markdown.

    Args:
        text: the docstring.
        public: path in the API reference of every public name; other names get no link.
    """

    def link(match: re.Match[str]) -> str:
        name = match[1].split(".")[-1]
        return f"[`{name}`][{public[name]}]" if name in public else f"`{match[1].removeprefix(PACKAGE + '.')}`"

    def block(match: re.Match[str]) -> str:
        equation = " ".join([match[2], *match[3].split("\n")]).strip()
        return f"{match[1]}$${re.sub(r'  +', ' ', equation)}$$\n\n"

    text = MATH_BLOCK.sub(block, text + "\n")
    text = ROLE.sub(link, text)
    text = MATH.sub(lambda match: f"${match[1]}$", text)
    text = re.sub(r"(?<=\S)::\n", ":\n", text)
    return fence_examples(text)


class DocstringMarkup(griffe.Extension):
    """Convert every docstring of the package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        public = {
            name: f"{PACKAGE}.{module}.{name}"
            for module, package in pkg.modules.items()
            for name in (package.exports or [])
            if isinstance(name, str)
        }
        self._convert(pkg, public)

    def _convert(self, item: griffe.Object | griffe.Alias, public: dict[str, str]) -> None:
        if item.is_alias:
            return
        if item.docstring is not None:
            item.docstring.value = markdown_of(item.docstring.value, public)
        for member in item.members.values():
            self._convert(member, public)
