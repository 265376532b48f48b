"""Random numbers: the integer operations of counter-based generators.

Source of the generators: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011). A
rotation is two shifts and an or; a double-width product is two multiplications, for its low and its high word.
"""

from __future__ import annotations

from math import prod
from typing import Final, NamedTuple

from costax.core import dtypes
from costax.core.cost import ZERO, Cost, Count
from costax.core.equation import Equation, Operand
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import ELEMENTWISE, GENERATOR, IDENTITY, NO_TRAITS, OPAQUE, Implementation


class Generator(NamedTuple):
    """A generator: words of a block; operations for a block, a key, and joining the words into 32 or 64 bits."""

    words: int
    block: Count
    key: Count
    xors_32: Count
    xors_64: Count


GENERATORS: Final = {
    # 20 rounds of add, rotate, xor; two words of key are added first, and after every 4th round with its number.
    "threefry2x32": Generator(2, 20 * 5 + 2 + 5 * 3, 2, 1, 0),
    # The same with two pairs and four words.
    "threefry4x32": Generator(4, 20 * 10 + 4 + 5 * 5, 4, 3, 2),
    # 10 rounds of a double-width product and two xors; the key grows by a constant between rounds.
    "philox2x32": Generator(2, 10 * 4, 9, 1, 0),
    # The same with two products and two words of key.
    "philox4x32": Generator(4, 10 * 8, 2 * 9, 3, 0),
}
_OF_KEY: Final = {
    "key<fry>": "threefry2x32",
    "key<fry4>": "threefry4x32",
    "key<phx2>": "philox2x32",
    "key<phx4>": "philox4x32",
    "key<rbg>": "rbg",
    "key<urbg>": "unsafe_rbg",
}


@cost_rule("threefry2x32", "threefry4x32", "philox2x32", "philox4x32", traits=ELEMENTWISE.but(operations=100.0))
def block_cipher(eqn: Equation) -> Cost:
    """A block of counters is enciphered by a fixed number of integer operations, and a key expanded once: no FLOPs.

    ops = blocks * per_block + keys * per_key: threefry2x32 117 and 2, threefry4x32 229 and 4 (20 rounds), philox2x32 40
    and 9, philox4x32 80 and 18 (10 rounds). A block is 2 or 4 words of 32 bits.
    Source: Salmon et al. 2011; jax.random uses these rounds.
    XLA: the same operations as jax lowers them; but threefry2x32 is on CPU a loop over its rounds, which is counted
    once, and on GPU a kernel.
    """
    return enciphered(eqn.name, blocks=eqn.out.size, keys=eqn.inputs[0].size)


def enciphered(name: str, *, blocks: Count, keys: Count) -> Cost:
    """Return the cost of enciphering so many blocks under so many keys."""
    generator = GENERATORS[name]
    return Cost.integer("u32", blocks * generator.block + keys * generator.key)


@cost_rule("iota_2x32_shape", traits=GENERATOR)
def iota_2x32_shape(eqn: Equation) -> Cost:
    """Each element is numbered by a 64-bit counter in two words: index arithmetic over d axes.

    ops = |out| * (2d + 1): d - 1 products (the last stride is 1), d - 1 sums and a shift in u64, two conversions.
    XLA: the same; a product with a stride of 1 is folded.
    """
    return counters(eqn.out.shape)


def counters(shape: tuple[Count, ...]) -> Cost:
    """Return the cost of numbering the elements of an array; a single element without axes is number 0."""
    n = prod(shape)
    return Cost.integer("u64", (2 * len(shape) - 1) * n) + Cost.convert("u32", 2 * n) if shape else ZERO


@cost_rule("random_bits", traits=GENERATOR.but(operations=100.0))
def random_bits(eqn: Equation) -> Cost:
    """Each element is the encryption of its index with the key, joined from the words of a block: no FLOPs.

    ops = |out| * (per_block + joins) + keys * per_key + |shape| * (2d + 1), per_block and per_key of `threefry2x32` and
    the others. Joins are a xor for 32 bits of a block of two words (3 for four words); 8 and 16 bits add a conversion;
    64 bits are two conversions, a shift and an or (threefry4x32: and 2 xors). So a 32-bit draw of a vector costs 121
    from a threefry2x32 key. An `rbg` key draws as `rng_bit_generator` does. With jax_threefry_partitionable set to
    false, threefry2x32 would take half the blocks; it is true by default.
    XLA: the same operations as jax lowers them; but threefry2x32 is on CPU a loop over its rounds, which is counted
    once, and on GPU a kernel.
    """
    key, out = eqn.inputs[0], eqn.out
    name = generator_of(key)
    if name not in GENERATORS:
        return drawn("philox4x32", out)
    cipher = enciphered(name, blocks=out.size, keys=key.size)
    return counters(tuple(eqn.params["shape"])) + cipher + joined(name, out)


def joined(name: str, out: Operand) -> Cost:
    """Return the cost of joining the words of a block into a number, for each number."""
    generator = GENERATORS[name]
    xors = generator.xors_64 if dtypes.bits(out.dtype) == 64 else generator.xors_32
    return Cost.integer("u32", xors * out.size) + resized(out)


def resized(out: Operand) -> Cost:
    """Return the cost of 8, 16 or 64 bits from words of 32: a conversion, or two with a shift and an or."""
    bits = dtypes.bits(out.dtype)
    if bits == 64:
        return Cost.convert(out.dtype, 2 * out.size) + Cost.integer(out.dtype, 2 * out.size)
    return Cost.convert(out.dtype, out.size) if bits < 32 else ZERO


@cost_rule("random_seed", traits=GENERATOR.but(operations=100.0))
def random_seed(eqn: Equation) -> Cost:
    """A seed is cut into two words, the high one by a shift; some generators encipher them: integer OPs, no FLOPs.

    ops = |seeds| * (1 + 2 conversions unless they are u32), and a mask for 64-bit seeds; threefry4x32 and the philox
    keys add a block and an expanded key for each seed.
    XLA: the same; a key that enters or leaves a program adds a custom call for its sharding, -1.
    """
    seeds, name = eqn.inputs[0], generator_of(eqn.out)
    hashes = name in ("threefry4x32", "philox2x32", "philox4x32")
    return halves(seeds) + enciphered(name, blocks=seeds.size, keys=seeds.size) if hashes else halves(seeds)


def halves(seeds: Operand) -> Cost:
    """Return the cost of cutting integers into two words; the low word of 32 bits needs no mask."""
    cuts = Cost.integer(seeds.dtype, (2 if dtypes.bits(seeds.dtype) == 64 else 1) * seeds.size)
    return cuts if seeds.dtype == "u32" else cuts + Cost.convert("u32", 2 * seeds.size)


@cost_rule("random_split", traits=GENERATOR.but(operations=100.0))
def random_split(eqn: Equation) -> Cost:
    """Each new key is the encryption of its index with the old key: no FLOPs.

    ops = new_keys * per_block + keys * per_key + |shape| * (2d + 1). An `rbg` key is two threefry2x32 keys; an
    `unsafe_rbg` key draws 40 words from `rng_bit_generator` for each new one.
    XLA: the same operations as jax lowers them; on CPU threefry2x32 is a loop over its rounds, which is counted once.
    """
    keys, out = eqn.inputs[0], eqn.out
    name = generator_of(keys)
    if name == "unsafe_rbg":
        return drawn("philox4x32", Operand((out.size, 10, 4), "u32"))
    parts, cipher = (2, "threefry2x32") if name == "rbg" else (1, name)
    return counters(tuple(eqn.params["shape"])) + enciphered(cipher, blocks=parts * out.size, keys=parts * keys.size)


@cost_rule("random_fold_in", traits=GENERATOR.but(operations=100.0))
def random_fold_in(eqn: Equation) -> Cost:
    """The new key is the encryption of the folded number with the old key: no FLOPs.

    ops = new_keys * per_block + keys * per_key; threefry2x32 and `rbg` keys cut each number into two words first.
    An `rbg` key is two threefry2x32 keys; an `unsafe_rbg` key draws 40 words from `rng_bit_generator` and takes 4 xors.
    XLA: the same operations as jax lowers them; on CPU threefry2x32 is a loop over its rounds, which is counted once.
    """
    (keys, numbers), out = eqn.inputs, eqn.out
    name = generator_of(keys)
    if name == "unsafe_rbg":
        return (
            halves(numbers) + drawn("philox4x32", Operand((out.size, 10, 4), "u32")) + Cost.integer("u32", 4 * out.size)
        )
    if name == "rbg":
        return halves(numbers) + enciphered("threefry2x32", blocks=2 * out.size, keys=2 * keys.size)
    cipher = enciphered(name, blocks=out.size, keys=keys.size)
    return halves(numbers) + cipher if name == "threefry2x32" else cipher


@cost_rule("rng_bit_generator", traits=NO_TRAITS)
def rng_bit_generator(eqn: Equation) -> Cost:
    """The compiler's generator: blocks of Philox 4x32 unless the program asks for Threefry: integer OPs, no FLOPs.

    ops = blocks * per_block + per_key, as `philox4x32` (80 and 18) or `threefry2x32` (117 and 2) for RNG_THREE_FRY. A
    block makes 4 or 2 words of 32 bits. A number of 64 bits takes two words, joined by two conversions, a shift and an
    or; a narrower one takes a word and a conversion.
    Source: XLA rng_bit_generator_expander. A TPU draws from hardware instead.
    XLA: 1 transcendental for each element and each of the 2 words of the state.
    """
    threefry = eqn.params["algorithm"].name == "RNG_THREE_FRY"
    return drawn("threefry2x32" if threefry else "philox4x32", eqn.outputs[1])


def drawn(name: str, numbers: Operand) -> Cost:
    """Return the cost of drawing numbers in sequence, which uses all words of each block."""
    words = numbers.size * (2 if dtypes.bits(numbers.dtype) == 64 else 1)
    blocks = -(-words // GENERATORS[name].words)
    return enciphered(name, blocks=blocks, keys=1) + resized(numbers) if numbers.size else ZERO


@cost_rule("rng_uniform", traits=NO_TRAITS)
@cost_rule("random_gamma", traits=OPAQUE.but(implementation=Implementation.SERIES, series_arrays=17))
def distribution(eqn: Equation) -> Cost:
    """A draw from a distribution is one transcendental operation for each output element.

    transcendentals = |out|. `rng_uniform` is opaque; `random_gamma` is a rejection loop (Marsaglia and Tsang 2000) that
    runs about 1.05 rounds an element, depending on the values.
    XLA: HandleRng counts the same for `rng_uniform`; of `random_gamma` it counts the lowered program, each loop once.
    """
    return Cost.transcendental(eqn.out.dtype, eqn.out.size)


free(
    "random_wrap",
    "random_unwrap",
    "random_clone",
    because="A key and its words are the same bits; no byte moves. XLA: no instruction.",
    traffic=no_traffic,
    traits=IDENTITY,
)


def generator_of(keys: Operand) -> str:
    """Return the name of the generator behind keys; raises LookupError for one that jax does not ship."""
    if keys.dtype not in _OF_KEY:
        raise LookupError(
            f"the generator of {keys.dtype} is unknown; register rules for random_bits, random_split, random_fold_in "
            'and random_seed, as in @costax.cost_rule("random_bits", override=True)'
        )
    return _OF_KEY[keys.dtype]
