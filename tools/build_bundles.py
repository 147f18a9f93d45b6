"""Bundle generator: python tools/build_bundles.py [--check]

A pre-training bundle is composed of the files in recipes/base/, which all of them share, and one recipe in
recipes/pretraining/. The written files are standalone: no file of a bundle refers to another bundle or to a recipe. The
fine-tuning bundles get only their LICENSE and logging.conf. With ``--check`` nothing is written; files that differ from
their recipe are listed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
BUNDLES = ROOT / "bundles"
WIDTH = 100
FIRST_ARGUMENTS = (
    "dataset_dir",
    "output_dir",
    "encoder_dir",
    "init",
    "batch_size",
    "micro_batch_size",
    "precision",
    "compile",
)
RIGHTS = "The license of this bundle (Apache-2.0) grants no rights under such patents."
PATENTS = {
    True: f"Methods of this kind are the subject of patents and patent applications of third parties. {RIGHTS}",
    False: f"Methods of this kind may be the subject of patents of third parties. {RIGHTS}",
}

Config = dict[str, Any]


def merge(base: Mapping[str, Any], changes: Mapping[str, Any], after: str | None = None) -> Config:
    """Merge nested mappings. New keys follow key ``after`` of the base, or stand last.

    A ``_target_`` that changes replaces the whole mapping, since arguments of one class do not fit another.

    >>> merge({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}})
    {'a': {'b': 1, 'd': 3}, 'c': 2}
    """
    merged: Config = {}
    new = {key: value for key, value in changes.items() if key not in base}
    for key, value in base.items():
        merged[key] = _merged_value(value, changes[key]) if key in changes else value
        if key == after:
            merged.update(new)
    merged.update(new)
    return merged


def _merged_value(old: Any, new: Any) -> Any:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    if "_target_" in new and new["_target_"] != old.get("_target_") and "_target_" in old:
        return dict(new)
    return merge(old, new)


def read_yaml(path: Path) -> Config:
    """Read a recipe or a base file.

    Raises:
        ValueError: if a number is written in a form that YAML reads as text, such as 1e-5.
    """
    config: Config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, text in _texts(config):
        if re.fullmatch(r"[-+]?\d+e[-+]?\d+", text):
            raise ValueError(f"{path.name}: YAML reads {name}: {text} as text; write {float(text):.1e} as 1.0e-05 does")
    return config


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{name}.{key}".strip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)


def to_json(value: Any, indent: int = 0) -> str:
    """Format as JSON; ``_target_`` stands first, and short lists stay on one line.

    >>> print(to_json({"a": [1, 2], "b": {}}))
    {
        "a": [1, 2],
        "b": {}
    }
    """
    pad = " " * (indent + 4)
    if isinstance(value, Mapping) and value:
        first = sorted(value.items(), key=lambda entry: entry[0] != "_target_")
        lines = [f"{pad}{json.dumps(key)}: {to_json(item, indent + 4)}" for key, item in first]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    flat = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and value:
        nested = any(isinstance(item, Mapping) for item in value)
        if nested or len(flat) > WIDTH - indent or any(isinstance(item, str) and item[:1] == "$" for item in value):
            return "[\n" + ",\n".join(pad + to_json(item, indent + 4) for item in value) + "\n" + " " * indent + "]"
    return flat


def build_pretraining(recipe: Config, base: Mapping[str, Config]) -> Iterator[tuple[str, str]]:
    """Compose the files of one pre-training bundle.

    Args:
        recipe: the recipe.
        base: the base files by name.

    Yields:
        Path within the bundle, and content.
    """
    train = merge(base["train"], recipe["train"], after="std")
    image_size = train["image_size"]
    train["train"] = {**train["train"], "handlers": [h for h in train["train"]["handlers"].values() if h is not None]}
    train["run"] = [step.replace("{label}", recipe["label"]) for step in train["run"].values()]
    yield "configs/train.json", to_json(train)
    yield "configs/inference.json", to_json(_inference(recipe, base["inference"], train))
    metadata = merge(base["metadata"], {key: recipe[key] for key in ("name", "description", "references")})
    formats = metadata["network_data_format"]
    metadata["network_data_format"] = merge(
        formats,
        {
            "inputs": {"image": {"spatial_shape": [image_size] * 2, **recipe.get("input", {})}},
            "outputs": {"pred": recipe["output"]},
        },
    )
    yield "configs/metadata.json", to_json(metadata)
    yield "configs/multi_gpu_train.json", to_json(merge(base["multi_gpu_train"], recipe.get("multi_gpu_train", {})))
    demo = merge(base["cpu_demo"], recipe["cpu_demo"], after="num_workers")
    yield "configs/cpu_demo.json", to_json({key: value for key, value in demo.items() if value is not None})
    for name, changes in recipe.get("variants", {}).items():
        yield f"configs/{name}.json", to_json(changes)


def _inference(recipe: Config, base: Config, train: Config) -> Config:
    network = {key: value for key, value in train["network_def"].items() if key != "drop_path_rate"}
    recorded = {"image_size": "image_size[0]", "mean": "mean", "std": "std"}
    shared = {k: f"$@encoder_record.{v} if @encoder_record else {train[k]}" for k, v in recorded.items()}
    own = recipe.get("inference", {})
    inference = merge(base, {**shared, **{key: value for key, value in own.items() if key not in base}}, "num_workers")
    return {**inference, "network_def": own.get("network_def", network)}


def build_readme(template: str, recipe: Config, train: Config, shared: Mapping[str, str]) -> str:
    """Fill in the README of one pre-training bundle.

    Args:
        template: the text with its placeholders.
        recipe: the recipe.
        train: the composed train.json, which gives the defaults of the arguments.
        shared: descriptions of arguments that several bundles have.

    Raises:
        ValueError: if the table describes an argument that train.json does not have.
    """
    readme = recipe["readme"]
    command = "python -m monai.bundle run --config_file \"['configs/train.json','configs/{}.json']\" --dataset_dir {}"
    commands = "".join(
        f"# {comment}\n{command.format(name, '/data/chest_radiographs')}\n\n"
        for name, comment in readme.get("commands", {}).items()
    )
    descriptions = {name: shared[name] for name in FIRST_ARGUMENTS}
    for entry in readme["arguments"]:
        descriptions.update(entry if isinstance(entry, Mapping) else {entry: shared[entry]})
    unknown = sorted(set(descriptions) - set(train))
    if unknown:
        raise ValueError(f"{recipe['label']}: the README describes {unknown}, which train.json does not have")
    texts = {
        "label": recipe["label"],
        "summary": readme["summary"].rstrip(),
        "patents": PATENTS[readme["patents"]],
        "commands": commands,
        "gpus": str(readme["gpus"]),
        "resume": f" {readme['resume'].rstrip()}" if "resume" in readme else "",
        "notes": f"\n{readme['notes'].rstrip()}\n" if "notes" in readme else "",
        "variants": "\n".join(f"| {' | '.join(row)} |" for row in readme["variants"]),
        "sections": f"\n{readme['sections'].rstrip()}\n" if "sections" in readme else "",
        "arguments": "\n".join(f"| `{key}` | {_default(train[key])} | {text} |" for key, text in descriptions.items()),
        "after": f"\n{readme['after'].rstrip()}\n" if "after" in readme else "",
        "watch": readme["watch"].rstrip(),
    }
    return re.sub(r"\{(\w+)\}", lambda match: texts[match[1]], template)


def _default(value: Any) -> str:
    """The default of an argument as a table cell."""
    if value is None:
        return "none"
    if isinstance(value, str):
        text = value.removeprefix("$").replace("@", "").replace("|", "\\|")
        return f"`{text}`" if text != value or "/" in value else text
    return f"`{json.dumps(value)}`" if isinstance(value, list) else json.dumps(value)


def written_files() -> Iterator[tuple[Path, str]]:
    """Yield the path and content of every generated file."""
    base = {path.stem: read_yaml(path) for path in sorted((RECIPES / "base").glob("*.yaml"))}
    template = (RECIPES / "base" / "README.md").read_text(encoding="utf-8")
    shared = {"LICENSE": ROOT / "LICENSE", "configs/logging.conf": RECIPES / "base" / "logging.conf"}
    for path in sorted((RECIPES / "pretraining").glob("*.yaml")):
        folder, recipe = BUNDLES / f"cxr_{path.stem}_pretraining", read_yaml(path)
        for name, content in build_pretraining(recipe, base):
            yield folder / name, content.rstrip("\n") + "\n"
        train = merge(base["train"], recipe["train"])
        yield folder / "docs/README.md", build_readme(template, recipe, train, base["arguments"])
    for folder in sorted(path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json")):
        for name, source in shared.items():
            yield folder / name, source.read_text(encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Write the bundles, or list the files that differ from their recipes."""
    parser = argparse.ArgumentParser(description="Write the bundles from recipes/.")
    parser.add_argument("--check", action="store_true", help="write nothing; list what differs and exit with 1")
    check = parser.parse_args(arguments).check
    different = []
    for path, content in written_files():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            different.append(path.relative_to(ROOT))
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
    for path in different:
        sys.stdout.write(f"{'differs' if check else 'wrote'} {path}\n")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
