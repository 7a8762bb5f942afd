"""Standardizing the latents changes the code, not the picture."""

import torch

from tiny import autoencoder
from tiny.corpus import draw_varied


def test_standardized_latents_have_unit_variance_and_decode_the_same() -> None:
    torch.manual_seed(0)
    model = autoencoder.build().eval()
    pictures = torch.from_numpy(draw_varied(16, seed=0))
    batch = autoencoder.to_model(pictures)
    with torch.no_grad():
        before = model.decode(model.encode(batch).latent_dist.mean).sample
        raw = model.encode(batch).latent_dist
        autoencoder.standardize(model, pictures)
        posterior = model.encode(batch).latent_dist
        after = model.decode(posterior.mean).sample
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(posterior.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(posterior.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    expected = raw.std / raw.mean.std(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(posterior.std, expected, atol=1e-3, rtol=1e-2)


def test_pictures_survive_the_change_of_range() -> None:
    pictures = torch.from_numpy(draw_varied(4, seed=1))
    images = autoencoder.to_images(autoencoder.to_model(pictures))
    assert [image.tobytes() for image in images] == [picture.numpy().tobytes() for picture in pictures]
