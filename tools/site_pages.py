"""MkDocs hooks: pages that are made from the repository at build time.

Bundle pages come from ``bundles/*/docs/README.md``, tutorials from the executed notebooks, results from
``benchmarks/results``, and the API reference from the ``__all__`` of every package. Nothing is imported or executed.
"""

from __future__ import annotations

import ast
import base64
import fnmatch
import json
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_anat"
FOUNDATION = ("schedules", "seeding", "precision", "distributed", "files", "resources", "intensities")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)

#: page of the site -> file of the repository that its relative links start from
ORIGIN: dict[str, str] = {}


# --- pages ------------------------------------------------------------------------------------------------------------


def exported_names(file: Path) -> list[str]:
    """The ``__all__`` of a file, without importing it."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def summary_of(file: Path) -> str:
    """The docstring's first line."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def packages() -> list[Path]:
    """Packages with an API; ``cli`` is described by its own help."""
    return sorted(path.parent for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "cli")


def reference_pages() -> dict[str, str]:
    """One page per package, with an entry for every public name."""
    pages = {}
    for package in packages():
        names = exported_names(package / "__init__.py")
        entries = "\n\n".join(f"::: monai_anat.{package.name}.{name}" for name in names)
        title = f"# monai_anat.{package.name}\n\n{summary_of(package / '__init__.py')}"
        pages[f"reference/{package.name}.md"] = f"{title}\n\n{entries}\n"
    parts = []
    for module in FOUNDATION:
        for name in exported_names(PACKAGE / f"{module}.py"):
            parts.append(f"::: monai_anat.{module}.{name}")
    keys = "\n".join(f"| `{name}` | `{value}` |" for name, value in constants_of(PACKAGE / "keys.py").items())
    pages["reference/foundation.md"] = (
        "# Schedules, seeds, keys\n\nTop-level modules that every package may import.\n\n"
        "## Keys of a batch\n\n`monai_anat.keys` names what a batch can hold.\n\n"
        f"| constant | key |\n|---|---|\n{keys}\n\n" + "\n\n".join(parts) + "\n"
    )
    rows = "\n".join(
        f"| [`monai_anat.{path.parent.name}`]({path.parent.name}.md) | {summary_of(path)} |"
        for path in (package / "__init__.py" for package in packages())
    )
    pages["reference/index.md"] = (
        "# API reference\n\n"
        "Every public name, by package. A name that is not listed here can change without notice.\n\n"
        f"| package | contents |\n|---|---|\n{rows}\n"
        "| [schedules, seeds, keys](foundation.md) | Top-level modules that every package may import. |\n"
    )
    return pages


def constants_of(file: Path) -> dict[str, Any]:
    """Upper-case names of a module and their literal values."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id.isupper() and isinstance(value, ast.Constant):
            found[target.id] = value.value
    return found


def bundle_pages() -> dict[str, str]:
    """The README of every bundle, and a table of all."""
    pages, rows = {}, []
    for readme in sorted(ROOT.glob("bundles/*/docs/README.md")):
        name = readme.parents[1].name
        text = readme.read_text(encoding="utf-8")
        uri = f"bundles/{name}.md"
        ORIGIN[uri] = readme.relative_to(ROOT).as_posix()
        title = text.splitlines()[0].removeprefix("# ")
        rows.append(f"| [`{name}`]({name}.md) | {title} |")
        pages[uri] = f"---\ntitle: {name}\n---\n\n{text}"  # the name in the navigation
    pages["bundles/index.md"] = (
        "# Bundles\n\n"
        "Each bundle is a folder of configurations that `python -m monai.bundle run` executes. The bundles "
        "are in `bundles/` of the repository and are installed with the package.\n\n"
        "| bundle | what it does |\n|---|---|\n" + "\n".join(rows) + "\n\n"
        "A bundle is code. Read [before you run somebody else's](../concepts/bundles_are_code.md).\n"
    )
    return pages


def tutorial_pages() -> tuple[dict[str, str], dict[str, bytes]]:
    """The committed notebooks with their outputs, and the pictures in them."""
    pages: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    rows = []
    for notebook in sorted(ROOT.glob("tutorials/[0-9][0-9]_*.ipynb")):
        uri = f"tutorials/{notebook.stem}.md"
        ORIGIN[uri] = notebook.relative_to(ROOT).as_posix()
        text, found = notebook_page(json.loads(notebook.read_text(encoding="utf-8")), notebook.stem)
        pages[uri] = text
        pictures |= {f"tutorials/{name}": content for name, content in found.items()}
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        rows.append(f"| [{title[1] if title else notebook.stem}]({notebook.stem}.md) | `{ORIGIN[uri]}` |")
    pages["tutorials/index.md"] = (
        "# Tutorials\n\nNotebooks that run on a laptop, shown with their outputs. Each needs only the images that ship "
        "with the package.\n\n| tutorial | notebook |\n|---|---|\n" + "\n".join(rows) + "\n"
    )
    return pages, pictures


def notebook_page(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    blocks: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
            if kind:
                name = f"{stem}_{len(pictures) + 1}.{kind.removeprefix('image/')}"
                pictures[name] = base64.b64decode("".join(data[kind]))
                blocks.append(f"![Output of the cell above]({name})")
            else:
                text = "".join(output.get("text") or data.get("text/plain", "")).rstrip()
                blocks.append(f'<div class="cell-output" markdown>\n\n```text\n{text}\n```\n\n</div>')
    return "\n\n".join(blocks) + "\n", pictures


def method_index() -> dict[str, str]:
    """A table of the pages in ``docs/methods``, unless one is written by hand."""
    folder = ROOT / "docs" / "methods"
    if (folder / "index.md").exists():
        return {}
    rows = []
    for path in sorted(folder.glob("*.md")):
        title, _, rest = path.read_text(encoding="utf-8").partition("\n")
        lead = re.sub(r"\s+", " ", rest.strip().split("\n\n")[0])
        rows.append(f"| [{title.removeprefix('# ')}]({path.name}) | {lead} |")
    return {"methods/index.md": "# Methods\n\n| method | in short |\n|---|---|\n" + "\n".join(rows) + "\n"}


def dataset_pages() -> dict[str, str]:
    """A page for every reader of a public data set that has none in ``docs/datasets``, from its docstrings."""
    pages = {}
    for file in sorted((PACKAGE / "data" / "lists" / "public_sets").glob("*.py")):
        reader = f"read_{file.stem}"
        if (
            reader not in exported_names(file)
            or (ROOT / "docs" / "datasets" / file.name.replace(".py", ".md")).exists()
        ):
            continue
        title, _, text = summary_of(file).partition(": ")
        command = f"python -m monai_anat prepare SOURCE OUT --public-set {file.stem}"
        entry = f"::: monai_anat.data.lists.public_sets.{file.stem}.{reader}"
        pages[f"datasets/{file.stem}.md"] = f"# {title}\n\n{text}\n\n```sh\n{command}\n```\n\n{entry}\n"
    return pages


def repository_pages() -> dict[str, str]:
    """Changelog, contributing and measured results."""
    pages = {}
    sources = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
    sources |= {f"results/{path.name}": f"benchmarks/results/{path.name}" for path in RESULTS.glob("*.md")}
    for uri, source in sources.items():
        ORIGIN[uri] = source
        pages[uri] = (ROOT / source).read_text(encoding="utf-8")
    return pages


RESULTS = ROOT / "benchmarks" / "results"


# --- links ------------------------------------------------------------------------------------------------------------


def site_page(path: str) -> str | None:
    """The page that shows a file of the repository."""
    for pattern, page in (
        (r"docs/(.+)", r"\1"),
        (r"bundles/(\w+)(?:/docs/README\.md)?/?", r"bundles/\1.md"),
        (r"tutorials/(\w+)\.(?:ipynb|py)", r"tutorials/\1.md"),
        (r"benchmarks/results/(.+)", r"results/\1"),
        (r"CHANGELOG\.md", "changelog.md"),
        (r"CONTRIBUTING\.md", "contributing.md"),
        (r"README\.md", "index.md"),
    ):
        if re.fullmatch(pattern, path):
            return re.sub(pattern, page, path)
    return None


def rewrite_links(text: str, uri: str) -> str:
    """Turn links between files of the repository into links between pages; files without a page lose the link."""
    origin = ORIGIN.get(uri, f"docs/{uri}")

    def rewrite(match: re.Match[str]) -> str:
        bang, label, target = match.groups()
        address, mark, anchor = target.partition("#")
        if not address or re.match(r"[a-z]+:", address):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), address))
        if not (ROOT / path).exists():
            return match[0]
        page = site_page(path)
        if page is None:
            return label if label.startswith("`") else f"{label} (`{path}`)"
        return f"{bang}[{label}]({os.path.relpath(page, posixpath.dirname(uri) or '.')}{mark}{anchor})"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(rewrite, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewrite, text[end:])])


# --- hooks ------------------------------------------------------------------------------------------------------------


def all_pages() -> tuple[dict[str, str], dict[str, bytes]]:
    """Every generated page and picture, by its place in the site."""
    tutorials, pictures = tutorial_pages()
    pictures |= {
        f"results/{path.relative_to(RESULTS).as_posix()}": path.read_bytes()
        for path in RESULTS.rglob("*")
        if path.suffix in (".png", ".svg", ".jpg")
    }
    pages = reference_pages() | bundle_pages() | method_index() | dataset_pages() | tutorials | repository_pages()
    return pages, pictures


def expand(nav: list[Any], uris: list[str]) -> list[Any]:
    """Replace patterns such as ``methods/*.md`` by the pages that the navigation does not name elsewhere."""
    named: set[str] = set()

    def collect(items: list[Any]) -> None:
        for item in items:
            value = next(iter(item.values())) if isinstance(item, dict) else item
            if isinstance(value, list):
                collect(value)
            else:
                named.add(value)

    collect(nav)

    def walk(items: list[Any]) -> list[Any]:
        done: list[Any] = []
        for item in items:
            if isinstance(item, dict):
                ((title, value),) = item.items()
                done.append({title: walk(value) if isinstance(value, list) else value})
            elif "*" in item:
                done += [uri for uri in sorted(uris) if fnmatch.fnmatch(uri, item) and uri not in named]
            else:
                done.append(item)
        return done

    return walk(nav)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    docs = Path(config.docs_dir)
    written = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    config.nav = expand(config.nav or [], [*written, *all_pages()[0]])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages, pictures = all_pages()
    for uri, content in (pages | pictures).items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return rewrite_links(markdown, page.file.src_uri)
