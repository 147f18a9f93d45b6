"""The tokenizer: one word for each patch, whatever the strides, and MONAI's autoencoder around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import VQVAE

from monai_anat.networks import VisualTokenizer


def tokenizer(**options: Any) -> VisualTokenizer:
    torch.manual_seed(0)
    small = {"strides": (2, 2), "channels": 8, "num_res_layers": 1, "num_tokens": 16, "token_dim": 4}
    return VisualTokenizer(**{**small, **options})


@pytest.mark.parametrize(
    ("options", "size", "grid"),
    [
        ({}, (16, 24), (4, 6)),
        ({"strides": (2, 7)}, (28, 42), (2, 3)),
        ({"strides": (3, 1, 2)}, (12, 18), (2, 3)),
        ({"spatial_dims": 3, "in_channels": 2}, (8, 8, 12), (2, 2, 3)),
    ],
)
def test_each_patch_has_a_word_and_the_image_its_size(
    options: dict[str, Any], size: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    made = tokenizer(**options)
    images = torch.rand(2, made.in_channels, *size)
    assert tuple(side // made.patch_size for side in size) == grid
    words = made.tokens(images)
    assert words.shape == (2, *grid)
    assert words.dtype == torch.int64
    assert 0 <= words.min() <= words.max() < 16
    reconstructed, commitment = made(images)
    assert reconstructed.shape == images.shape
    assert commitment.shape == ()
    assert made.decode_samples(words).shape == images.shape
    # the decoder goes back the way that the encoder came
    down, up = (
        [p[0] for p in parameters]
        for parameters in (made.encoder.downsample_parameters, made.decoder.upsample_parameters)
    )
    assert down == up[::-1]


def test_words_are_those_of_the_reconstruction_and_move_nothing() -> None:
    made = tokenizer()
    images = torch.rand(2, 1, 16, 16)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    words = made.tokens(images)
    made.codebook.update()
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert not made.tokens(images).requires_grad
    torch.testing.assert_close(made.decode_samples(words), made(images)[0])
    torch.testing.assert_close(made.eval()(images)[0], made.train()(images)[0])


def test_the_state_is_monai_s() -> None:
    made = tokenizer()
    theirs = VQVAE(
        2,
        1,
        1,
        channels=(8, 8),
        num_res_layers=1,
        num_res_channels=8,
        downsample_parameters=(2, 4, 1, 1),
        upsample_parameters=(2, 4, 1, 1, 0),
        num_embeddings=16,
        embedding_dim=4,
    )
    theirs.load_state_dict(made.state_dict(), strict=True)
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(theirs.eval()(images)[0], made.eval()(images)[0])
    assert torch.equal(theirs.index_quantize(images), made.tokens(images))


def test_it_learns_to_use_many_words() -> None:
    made = tokenizer(decay=0.9)
    patches = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = patches[torch.randint(0, 16, (8, 16), generator=torch.Generator().manual_seed(1))]
    images = images.reshape(8, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).reshape(8, 1, 16, 16)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        reconstructed, commitment = made(images)
        loss = (reconstructed - images).square().mean() + 0.25 * commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.codebook.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert made.codebook.perplexity() > 4


@pytest.mark.parametrize("options", [{"strides": ()}, {"strides": (2, 0)}, {"channels": 0}, {"num_res_layers": -1}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"strides, channels and in_channels must be at least 1 .*, got strides="):
        tokenizer(**options)
