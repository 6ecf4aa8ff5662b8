"""Variational auto-encoder (Kingma, Welling: Auto-encoding variational Bayes, 2013), with convolutions in place of the paper's MLPs."""

from __future__ import annotations

from ..frontends.dsl import Value, conv, conv_transpose, exp, flatten, linear, model, relu, reshape, scope, sigmoid

LATENT = 20


@model(image=("batch=1", 1, 28, 28))
def vae_encoder(image: Value) -> dict[str, Value]:
    """VAE encoder: mean and log variance of 20 latent numbers of a picture of 28 x 28 in [0, 1]."""
    x = relu(conv(image, 32, 4, stride=2, pad=1))
    x = relu(conv(x, 64, 4, stride=2, pad=1))
    x = relu(linear(flatten(x), 256))
    return {"mean": linear(x, LATENT, name="mean"), "log_variance": linear(x, LATENT, name="log_variance")}


@model(latent=("batch=1", LATENT))
def vae_decoder(latent: Value) -> Value:
    """VAE decoder: 20 latent numbers to a picture of 28 x 28 in [0, 1]."""
    x = relu(linear(latent, 256))
    x = reshape(relu(linear(x, 64 * 7 * 7)), (-1, 64, 7, 7))
    x = relu(conv_transpose(x, 32, 4, stride=2, pad=1))
    return sigmoid(conv_transpose(x, 1, 4, stride=2, pad=1))


@model(image=("batch=1", 1, 28, 28), noise=("batch=1", LATENT))
def vae(image: Value, noise: Value) -> dict[str, Value]:
    """VAE: a picture of 28 x 28 in [0, 1] encoded, sampled with normally distributed noise, and decoded."""
    with scope("encoder"):
        code = vae_encoder(image)
    latent = code["mean"] + exp(code["log_variance"] / 2) * noise
    with scope("decoder"):
        return {"reconstruction": vae_decoder(latent), **code}
