"""Factories of programs for the tests of sweeps; processes of their own import them."""

from __future__ import annotations

import os
import time

import jax.numpy as jnp

import costax


def network(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return x


def make(depth, width, note=""):
    """A stack of `depth` square layers on eight rows."""
    weights = [costax.spec(f"f32[{width},{width}]")] * depth
    return costax.Target(network, (weights, costax.spec(f"f32[8,{width}]")), params_argnums=0)


def picky(depth, width):
    if depth == 3:
        raise ValueError("three is no depth")
    return make(depth, width)


def slow(depth, width):
    time.sleep(0.1)
    return make(depth, width)


def deadly(depth, width):
    if depth == 3:
        os._exit(9)
    return make(depth, width)


def symbolic(depth):
    return network, ([costax.spec("f32[d,d]")] * depth, costax.spec("f32[b,d]"))


def wrong(depth):
    return depth
