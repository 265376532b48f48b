"""Worked examples of random numbers: the arguments are keys, `key<fry>[]` a threefry2x32 one."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax
from jax import lax
from jax.extend.random import threefry2x32_p, threefry_prng_impl

from costax import _jax
from costax.rules.examples import case, differs

_LOOP = "on CPU threefry2x32 is a loop of 5 steps, whose body counts once"
_RBG = "1 transcendental an element and a word of state; its bitcasts count, and -1 for the sharding of a key"
_SHARDING = "-1 for the custom call that shards a key"

CASES = [
    case(
        "threefry2x32",
        lambda key, x: threefry2x32_p.bind(key[0], key[1], x, x),
        "u32[2]",
        "u32[1000]",
        flops=0,
        ops=1000 * 117 + 2,
        xla=differs(_LOOP, flops=1000 * (2 + 4 * 5 + 3) + 11),
    ),
    case(
        "iota_2x32_shape",
        lambda words: threefry_prng_impl.random_bits(words, 32, (10, 100)),
        "u32[2]",
        flops=0,
        ops=1000 * (117 + 1 + 5) + 2,
        xla=differs(_LOOP, flops=1000 * (2 + 4 * 5 + 3 + 6) + 11),
    ),
    case(
        "random_bits",
        lambda key: jax.random.bits(key, (1000,)),
        "key<fry>[]",
        flops=0,
        ops=1000 * (117 + 1 + 3) + 2,
        xla=differs(_LOOP, flops=1000 * (2 + 4 * 5 + 3 + 1 + 3) + 10),
    ),
    case(
        "random_bits",
        lambda key: jax.random.bits(key, (1000,), dtype="uint8"),
        "key<fry>[]",
        flops=0,
        ops=1000 * (117 + 1 + 1 + 3) + 2,
        xla=differs(_LOOP, flops=1000 * (2 + 4 * 5 + 3 + 2 + 3) + 10),
    ),
    case(
        "random_bits",
        lambda key: jax.random.bits(key, (1000,)),
        "key<rbg>[]",
        flops=0,
        ops=250 * 80 + 18,
        xla=differs(_RBG, flops=1, transcendentals=1002),
    ),
    case(
        "rng_bit_generator",
        lambda words: lax.rng_bit_generator(words, (1000,)),
        "u32[4]",
        flops=0,
        ops=250 * 80 + 18,
        xla=differs(_RBG, flops=6, transcendentals=1002),
    ),
    case(
        "rng_bit_generator",
        lambda words: lax.rng_bit_generator(words, (1000,), algorithm=lax.RandomAlgorithm.RNG_THREE_FRY),
        "u32[4]",
        flops=0,
        ops=500 * 117 + 2,
        xla=differs(_RBG, flops=6, transcendentals=1002),
    ),
    case("random_seed", lambda s: jax.random.key(s), "i32[]", flops=0, ops=1 + 2, xla=differs(_SHARDING, flops=2)),
    case("random_seed", lambda s: jax.random.key(s), "u32[]", flops=0, ops=1, xla=differs(_SHARDING, flops=0)),
    case(
        "random_split",
        lambda key: jax.random.split(key, 3),
        "key<fry>[]",
        flops=0,
        ops=3 * (117 + 3) + 2,
        xla=differs(_LOOP, flops=93),
    ),
    case(
        "random_split",
        lambda key: jax.random.split(key, 3),
        "key<rbg>[]",
        flops=0,
        ops=3 * (2 * 117 + 3) + 2 * 2,
        xla=differs(_LOOP, flops=170),
    ),
    case(
        "random_split",
        lambda key: jax.random.split(key, 3),
        "key<urbg>[]",
        flops=0,
        ops=3 * 10 * 80 + 18,
        xla=differs(_RBG, flops=0, transcendentals=3 * 40 + 2),
    ),
    case(
        "random_fold_in",
        lambda key, i: jax.random.fold_in(key, i),
        "key<fry>[]",
        "u32[]",
        flops=0,
        ops=117 + 2 + 1,
        xla=differs(_LOOP, flops=35),
    ),
    case(
        "random_fold_in",
        lambda key, i: jax.random.fold_in(key, i),
        "key<rbg>[]",
        "u32[]",
        flops=0,
        ops=2 * (117 + 2) + 1,
        xla=differs(_LOOP, flops=62),
    ),
    case(
        "random_fold_in",
        lambda key, i: jax.random.fold_in(key, i),
        "key<urbg>[]",
        "u32[]",
        flops=0,
        ops=10 * 80 + 18 + 1 + 4,
        xla=differs(_RBG, flops=5, transcendentals=40 + 2),
    ),
    case(
        "random_wrap", lambda words: jax.random.wrap_key_data(words), "u32[2]", ops=0, xla=differs(_SHARDING, flops=-1)
    ),
    case("random_unwrap", lambda key: jax.random.key_data(key), "key<fry>[]", ops=0, xla=differs(_SHARDING, flops=-1)),
    case("random_clone", lambda key: jax.random.clone(key), "key<fry>[]", ops=0, xla=differs(_SHARDING, flops=-2)),
    case("rng_uniform", lambda low, high: lax.rng_uniform(low, high, (1000,)), "f32[]", "f32[]", transcendentals=1000),
    case(
        "random_gamma",
        lambda key, a: jax.random.gamma(key, a),
        "key<fry>[]",
        "f32[1000]",
        flops=0,
        transcendentals=1000,
        xla=differs(
            "lowered to rejection loops, whose bodies count once, and the generator",
            flops=402 * 1000 + 86,
            transcendentals=8 * 1000,
        ),
    ),
]
if _jax.generator("philox4x32"):
    CASES += [
        case(
            "threefry4x32",
            lambda words: _jax.generator("threefry4x32").random_bits(words, 32, (1000,)),
            "u32[4]",
            flops=0,
            ops=1000 * (229 + 3 + 3) + 4,
        ),
        case(
            "philox2x32",
            lambda words: _jax.generator("philox2x32").random_bits(words, 32, (1000,)),
            "u32[1]",
            flops=0,
            ops=1000 * (40 + 1 + 3) + 9,
        ),
        case(
            "philox4x32",
            lambda words: _jax.generator("philox4x32").random_bits(words, 32, (1000,)),
            "u32[2]",
            flops=0,
            ops=1000 * (80 + 3 + 3) + 18,
        ),
        case(
            "random_bits",
            lambda s: jax.random.bits(jax.random.key(s, impl="threefry4x32"), (1000,)),
            "u32[]",
            flops=0,
            ops=(1 + 229 + 4) + 1000 * (229 + 3 + 3) + 4,
        ),
        case(
            "random_split",
            lambda s: jax.random.split(jax.random.key(s, impl="philox2x32"), 3),
            "u32[]",
            flops=0,
            ops=(1 + 40 + 9) + 3 * (40 + 3) + 9,
            xla=differs(_SHARDING, flops=(1 + 40 + 9) + 3 * (40 + 3) + 9 - 1),
        ),
        case(
            "random_fold_in",
            lambda s: jax.random.fold_in(jax.random.key(s, impl="philox4x32"), 3),
            "u32[]",
            flops=0,
            ops=2 * (80 + 18) + 1,
            xla=differs(_SHARDING, flops=2 * (80 + 18) + 1 - 1),
        ),
        case(
            "random_seed",
            lambda s: jax.random.key(s, impl="philox4x32"),
            "u32[]",
            flops=0,
            ops=80 + 18 + 1,
            xla=differs(_SHARDING, flops=80 + 18),
        ),
    ]
