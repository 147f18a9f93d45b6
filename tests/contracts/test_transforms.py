"""What every transform of the package promises, found by ``transforms.__all__``."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import MapTransform, Randomizable, RandomizableTrait, Transform
from torch import Tensor

from monai_anat import transforms

SHAPES = {2: (1, 16, 24), 3: (1, 16, 24, 8)}
KINDS: dict[str, Callable[[Any], Any]] = {
    "array": lambda pixels: pixels,
    "tensor": torch.from_numpy,
    "meta": lambda pixels: MetaTensor(torch.from_numpy(pixels), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))),
}
#: what a transform needs to run on the shapes above, beyond its defaults; the key of dictionary transforms is "image"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "OverlappingGridCrops": {"grid_size": 2, "cell_size": 2},
    "RandBordersd": {"prob": 1.0},
    "RandOverlappingGridCropsd": {"grid_size": 2, "cell_size": 2, "margin": 1},
    "RandResizedCrop": {"size": 8},
    "RandResizedCropd": {"size": 8},
    "RandShufflePatchesd": {"patch_size": 4},
    "RestorePatches": {"patch_size": 4},
    "RestorePatchesd": {"patch_size": 4},
    "ShufflePatches": {"patch_size": 4},
}
#: transforms whose pixels have another size; their unit tests say where these lie
RESAMPLING = {"RandResizedCrop", "RandResizedCropd"}
#: what an array transform is called with besides the image
CALLS: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "OverlappingGridCrops": lambda dims: ((0,) * dims, (1,) * dims),
    "RestorePatches": lambda dims: (_order(dims),),
    "ShufflePatches": lambda dims: (_order(dims),),
}

CLASSES = [
    value
    for name in transforms.__all__
    if inspect.isclass(value := getattr(transforms, name)) and issubclass(value, Transform)
]
ARRAY = [kind for kind in CLASSES if not issubclass(kind, MapTransform)]
DICTIONARY = [kind for kind in CLASSES if issubclass(kind, MapTransform)]
RANDOM_DICTIONARY = [kind for kind in DICTIONARY if issubclass(kind, Randomizable)]
PAIRS = [(kind, getattr(transforms, kind.__name__ + "d")) for kind in ARRAY if hasattr(transforms, kind.__name__ + "d")]


def _order(dims: int) -> Tensor:
    cells = int(np.prod([side // 4 for side in SHAPES[dims][1:]]))
    return torch.from_numpy(np.random.RandomState(1).permutation(cells))


def _image(dims: int, dtype: type = np.float32) -> np.ndarray:
    rng = np.random.RandomState(0)
    if dtype is np.uint8:
        return rng.randint(0, 256, SHAPES[dims], dtype=np.uint8)
    return rng.rand(*SHAPES[dims]).astype(dtype)


def _make(kind: type, **more: Any) -> Any:
    keys = {"keys": "image"} if issubclass(kind, MapTransform) else {}
    return kind(**{**keys, **ARGUMENTS.get(kind.__name__, {}), **more})


def _run(transform: Any, image: Any, dims: int, seed: int = 0) -> dict[str, Any]:
    """Outputs by name; seeded where the transform is random."""
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed)
    if isinstance(transform, MapTransform):
        return dict(transform({"image": image, "order": _order(dims)}))
    out = transform(image, *CALLS.get(type(transform).__name__, lambda _: ())(dims))
    return {str(i): value for i, value in enumerate(out)} if isinstance(out, tuple) else {"image": out}


def _plain(value: Any) -> np.ndarray:
    return np.asarray(value.as_tensor() if isinstance(value, MetaTensor) else value)


def _assert_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(_plain(one[key]), _plain(two[key]), err_msg=key)


def test_the_room_has_transforms_and_pairs() -> None:
    assert len(CLASSES) >= 18 and len(PAIRS) >= 7


@pytest.mark.parametrize("kind", CLASSES)
def test_bases_and_backends_are_declared(kind: type) -> None:
    assert len(kind.backend) == 2  # type: ignore[attr-defined]
    # caches of MONAI stop at random transforms by this trait
    assert issubclass(kind, RandomizableTrait) == kind.__name__.startswith("Rand")


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_arrays_tensors_and_metatensors_give_the_same_values_in_their_own_kind(kind: type, dims: int) -> None:
    image = _image(dims)
    outs = {name: _run(_make(kind), convert(image.copy()), dims) for name, convert in KINDS.items()}
    for name, out in outs.items():
        _assert_equal(out, outs["array"])
        for key, value in out.items():
            if value is not None and key not in ("order", "correspondence", "2"):
                assert type(value) is type(KINDS[name](image)), f"{key} is {type(value)} for {name}"
                assert _plain(value).dtype == np.float32, key
                assert value.shape[0] == 1 and len(value.shape) == dims + 1


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_the_input_stays_untouched(kind: type, dims: int) -> None:
    for dtype in (np.float32, np.float64, np.uint8):
        for convert in KINDS.values():
            image = _image(dims, dtype)
            given = convert(image)
            _run(_make(kind), given, dims)
            np.testing.assert_array_equal(_plain(given), _image(dims, dtype))


@pytest.mark.parametrize("kind", CLASSES)
def test_read_only_memory_maps_are_accepted(kind: type) -> None:
    image = _image(2, np.uint8)
    image.flags.writeable = False
    _assert_equal(_run(_make(kind), image, 2), _run(_make(kind), _image(2, np.uint8), 2))


@pytest.mark.parametrize("kind", CLASSES)
def test_arrays_in_the_byte_order_of_another_machine_are_accepted(kind: type) -> None:
    image = _image(2)
    swapped = image.astype(image.dtype.newbyteorder())
    _assert_equal(_run(_make(kind), swapped, 2), _run(_make(kind), image, 2))


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__name__.startswith("Rand")])
def test_half_precision_stays_and_moves_nothing(kind: type, dims: int) -> None:
    # waves, in which a place that is rounded to half precision is seen
    wave = torch.linspace(0, 30 * torch.pi, 240).sin().mul(0.4).add(0.5)[None]
    image = wave.expand(1, 8, 240) if dims == 2 else wave[..., None].expand(1, 8, 240, 8)
    arguments = {"angle": 20.0} if kind.__name__.startswith("RandAppearance") else {}
    for seed in range(3):
        wide, half = (
            _run(_make(kind, **arguments), pixels, dims, seed)["image"] for pixels in (image, image.to(torch.bfloat16))
        )
        assert half.dtype == torch.bfloat16
        difference = (half.float() - wide).abs()
        assert difference.quantile(0.9) < 0.01, seed  # one step of bfloat16 below 1 is .004


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_the_same_seed_gives_the_same_output_and_another_seed_another(kind: type, dims: int) -> None:
    image = _image(dims)
    transform = _make(kind, prob=1.0) if "prob" in inspect.signature(kind).parameters else _make(kind)
    first = _run(transform, image, dims, seed=1)
    _assert_equal(first, _run(transform, image, dims, seed=1))
    if isinstance(transform, Randomizable):
        others = [_run(transform, image, dims, seed=seed) for seed in range(2, 6)]
        changed = [any(not np.array_equal(_plain(first[k]), _plain(other[k])) for k in first) for other in others]
        assert any(changed)


@pytest.mark.parametrize("kind", CLASSES)
def test_randomness_comes_from_the_own_state_only(kind: type) -> None:
    image, out = _image(2), []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002 - the global state must not matter
        torch.manual_seed(seed)
        out.append(_run(_make(kind), image, 2))
    _assert_equal(*out)


@pytest.mark.parametrize(("array", "dictionary"), PAIRS)
@pytest.mark.parametrize("dims", SHAPES)
def test_array_and_dictionary_form_agree(array: type, dictionary: type, dims: int) -> None:
    for seed in range(5):
        one, two = (_run(_make(kind), _image(dims), dims, seed)["image"] for kind in (array, dictionary))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_pickled_transform_goes_on_alike(kind: type) -> None:
    transform = _make(kind)
    if isinstance(transform, Randomizable):
        transform.set_random_state(7)
        _run(transform, _image(2), 2)
    again = pickle.loads(pickle.dumps(transform))
    _assert_equal(_run(again, _image(2), 2, seed=3), _run(transform, _image(2), 2, seed=3))


@pytest.mark.parametrize("kind", DICTIONARY)
def test_samples_collate(kind: type) -> None:
    for convert in KINDS.values():
        batch = list_data_collate([_run(_make(kind), convert(_image(2)), 2, seed) for seed in range(3)])
        assert all(len(value) == 3 for value in batch.values())


@pytest.mark.parametrize("kind", DICTIONARY)
def test_missing_keys_are_refused_or_allowed(kind: type) -> None:
    with pytest.raises(KeyError, match="label"):
        _run(_make(kind, keys=["image", "label"]), _image(2), 2)
    allowed = _run(_make(kind, keys=["image", "label"], allow_missing_keys=True), _image(2), 2)
    _assert_equal(allowed, _run(_make(kind), _image(2), 2))
    nothing = _make(kind, keys="label", allow_missing_keys=True)({"image": 1})
    assert nothing == {"image": 1}


@pytest.mark.parametrize("kind", RANDOM_DICTIONARY)
def test_the_random_state_is_forwarded_and_set_random_state_returns_the_transform(kind: type) -> None:
    transform = _make(kind)
    assert transform.set_random_state(5) is transform
    inner = getattr(transform, "transform", None)
    if inner is not None:
        assert inner.R.random_sample() == np.random.RandomState(5).random_sample()
    state = np.random.RandomState(9)
    transform.set_random_state(state=state)
    first = transform({"image": _image(2)})
    transform.set_random_state(9)
    _assert_equal(first, transform({"image": _image(2)}))


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__name__ not in RESAMPLING])
def test_metadata_survives(kind: type) -> None:
    source = KINDS["meta"](_image(2))
    for key, value in _run(_make(kind), source, 2).items():
        if isinstance(value, MetaTensor):
            assert torch.equal(value.affine[:3, :3], source.affine[:3, :3]), key
