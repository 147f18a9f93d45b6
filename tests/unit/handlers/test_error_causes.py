from __future__ import annotations

import sys

import pytest
from monai.transforms import Compose
from torch.utils.data import DataLoader, Dataset

from monai_anat.handlers.error_causes import root_cause, show_root_cause


def failure() -> RuntimeError:
    try:
        try:
            try:
                raise KeyError("low level")
            except KeyError as error:
                raise ValueError("batch_size must be at least 1") from error
        except ValueError as error:
            raise RuntimeError("Failed to instantiate component 'x'") from error
    except RuntimeError as error:
        return error


def test_an_error_ends_in_the_sentence_that_explains_it(capsys):
    error = failure()
    assert str(root_cause(error)) == "batch_size must be at least 1"
    show_root_cause(type(error), error, error.__traceback__)
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("The cause: ValueError: batch_size must be at least 1\n")
    show_root_cause(ValueError, ValueError("plain"), None)
    assert "cause" not in capsys.readouterr().err
    show_root_cause(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "\nStopped by Ctrl-C.\n"


def broken(item):
    try:
        raise EOFError("low level")
    except EOFError as error:
        raise ValueError("a.png is truncated\nat byte 7") from error


class Files(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index):
        return Compose([broken])({"image": index})


@pytest.mark.parametrize("workers", [0, 1])
def test_the_cause_in_a_loading_process_is_found(workers):
    with pytest.raises(RuntimeError) as caught:
        next(iter(DataLoader(Files(), num_workers=workers)))
    cause = root_cause(caught.value)
    assert type(cause).__name__ == "ValueError"
    assert str(cause) == "a.png is truncated\nat byte 7"


def test_an_error_without_wrappers_is_its_own_cause():
    error = RuntimeError("plain")
    assert root_cause(error) is error
    assert "pytest" in sys.modules
