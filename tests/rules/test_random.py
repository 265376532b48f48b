"""Random numbers: truth is the published generators, run on words that count what is done to them.

The generators are written here from Salmon, Moraes, Dror and Shaw (SC 2011), and shown to be the right ones by the
known answers of its library, Random123 (`kat_vectors`).
"""

from __future__ import annotations

from collections import Counter

import jax
import pytest
from jax import lax

import costax
from costax import _jax
from costax.core.conventions import as_xla
from costax.core.cost import TRANSCENDENTAL
from costax.core.equation import Equation, Operand

MASK = 0xFFFFFFFF
TALLY: Counter[str] = Counter()


class Word:
    """A 32-bit word that is part of a key or of a block; an operation is the key's where only keys take part."""

    def __init__(self, value: int, part: str) -> None:
        self.value, self.part = value & MASK, part

    def _operation(self, other, value: int) -> Word:
        part = "key" if self.part == "key" and getattr(other, "part", "key") == "key" else "block"
        TALLY[part] += 1
        return Word(value, part)

    def __add__(self, other):
        return self._operation(other, self.value + getattr(other, "value", other))

    def __xor__(self, other):
        return self._operation(other, self.value ^ getattr(other, "value", other))

    def __or__(self, other):
        return self._operation(other, self.value | other.value)

    def __lshift__(self, bits: int):
        return self._operation(bits, self.value << bits)

    def __rshift__(self, bits: int):
        return self._operation(bits, self.value >> bits)

    def low(self, factor: int):
        return self._operation(factor, self.value * factor)

    def high(self, factor: int):
        return self._operation(factor, self.value * factor >> 32)


def rotated(x: Word, bits: int) -> Word:
    return (x << bits) | (x >> (32 - bits))


def threefry(x: list[Word], key: list[Word], rotations: list[list[int]]) -> list[Word]:
    """Threefry with 20 rounds on 2 or 4 words. Source: Salmon et al., section 3.3."""
    n = len(x)
    last = key[0]
    for word in key[1:]:
        last = last ^ word
    keys = [*key, last ^ 0x1BD11BDA]
    x = [word + k for word, k in zip(x, keys, strict=False)]
    for round_ in range(20):
        for pair, rotation in enumerate(rotations[round_ % 8]):
            # On four words every other round pairs 0 with 3 and 2 with 1.
            a = 2 * pair
            b = (a + 1) % n if round_ % 2 == 0 else (a + n - 1) % n
            x[a] = x[a] + x[b]
            x[b] = rotated(x[b], rotation) ^ x[a]
        if round_ % 4 == 3:
            number = round_ // 4 + 1
            x = [word + keys[(number + i) % (n + 1)] for i, word in enumerate(x)]
            x[-1] = x[-1] + number
    return x


def philox(x: list[Word], key: list[Word], factors: list[int], bumps: list[int]) -> list[Word]:
    """Philox with 10 rounds on 2 or 4 words. Source: Salmon et al., section 3.4."""
    for round_ in range(10):
        if round_:
            key = [k + bump for k, bump in zip(key, bumps, strict=True)]
        if len(x) == 2:
            x = [x[0].high(factors[0]) ^ x[1] ^ key[0], x[0].low(factors[0])]
        else:
            first, second = factors
            x = [
                x[2].high(second) ^ x[1] ^ key[0],
                x[2].low(second),
                x[0].high(first) ^ x[3] ^ key[1],
                x[0].low(first),
            ]
    return x


ROTATIONS_2 = [[13], [15], [26], [6], [17], [29], [16], [24]]
ROTATIONS_4 = [[10, 26], [11, 21], [13, 27], [23, 5], [6, 20], [17, 11], [25, 10], [18, 20]]
CIPHERS = {
    "threefry2x32": lambda x, key: threefry(x, key, ROTATIONS_2),
    "threefry4x32": lambda x, key: threefry(x, key, ROTATIONS_4),
    "philox2x32": lambda x, key: philox(x, key, [0xD256D193], [0x9E3779B9]),
    "philox4x32": lambda x, key: philox(x, key, [0xD2511F53, 0xCD9E8D57], [0x9E3779B9, 0xBB67AE85]),
}
# Random123, kat_vectors: (generator, counter, key, answer), in hexadecimal.
KNOWN = [
    ("threefry2x32", "00000000 00000000", "00000000 00000000", "6b200159 99ba4efe"),
    ("threefry2x32", "ffffffff ffffffff", "ffffffff ffffffff", "1cb996fc bb002be7"),
    ("threefry2x32", "243f6a88 85a308d3", "13198a2e 03707344", "c4923a9c 483df7a0"),
    ("threefry4x32", "0 0 0 0", "0 0 0 0", "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
    ("philox2x32", "00000000 00000000", "00000000", "ff1dae59 6cd10df2"),
    ("philox4x32", "0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (
        "philox4x32",
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
NEW = pytest.mark.skipif(_jax.generator("philox4x32") is None, reason="this jax has threefry2x32 alone")


def words(text: str, part: str) -> list[Word]:
    return [Word(int(word, 16), part) for word in text.split()]


def work(name: str) -> tuple[int, int]:
    """Operations on a block, and on a key before it, of the scalar generator."""
    counter, key = next((counter, key) for known, counter, key, _ in KNOWN if known == name)
    TALLY.clear()
    CIPHERS[name](words(counter, "block"), words(key, "key"))
    return TALLY["block"], TALLY["key"]


def ops(function, *args: str) -> int:
    return costax.analyze(function)(*map(costax.spec, args)).total.ops


@pytest.mark.parametrize(("name", "counter", "key", "answer"), KNOWN)
def test_the_scalar_generators_give_the_known_answers(name, counter, key, answer):
    found = CIPHERS[name](words(counter, "block"), words(key, "key"))
    assert [word.value for word in found] == [int(word, 16) for word in answer.split()]


@pytest.mark.parametrize("name", CIPHERS)
@pytest.mark.parametrize(("keys", "blocks"), [((), (7,)), ((5,), (5,)), ((), (3, 4)), ((2, 1), (2, 9))])
def test_a_block_costs_what_the_scalar_generator_does(name, keys, blocks):
    key_words, block_words = {
        "threefry2x32": (2, 2),
        "threefry4x32": (4, 4),
        "philox2x32": (1, 2),
        "philox4x32": (2, 4),
    }[name]
    inputs = (Operand(keys, "u32"),) * key_words + (Operand(blocks, "u32"),) * block_words
    equation = Equation(name, inputs, (Operand(blocks, "u32"),) * block_words)
    per_block, per_key = work(name)
    expected = per_block * inputs[-1].size + per_key * inputs[0].size
    assert costax.rules()[name].function(equation).ops == expected


def test_a_draw_costs_a_block_and_the_xor_of_its_words():
    per_block, per_key = work("threefry2x32")
    # A vector is numbered by a shift and two conversions; a scalar is number 0.
    assert ops(lambda key: jax.random.bits(key, (1000,)), "key<fry>[]") == 1000 * (per_block + 1 + 3) + per_key
    assert ops(lambda key: jax.random.bits(key, ()), "key<fry>[]") == per_block + 1 + per_key


def test_many_keys_cost_what_one_does_for_each_but_the_counters_are_made_once():
    per_block, per_key = work("threefry2x32")
    draw = jax.vmap(lambda key: jax.random.bits(key, (100,)))
    assert ops(draw, "key<fry>[7]") == 7 * (100 * (per_block + 1) + per_key) + 100 * 3


def test_dropout_of_a_million_elements_costs_a_million_blocks():
    per_block, _ = work("threefry2x32")
    found = ops(lambda key: jax.random.bernoulli(key, 0.1, (1000, 1000)), "key<fry>[]")
    assert 10**6 * per_block < found < 10**6 * (per_block + 20)


@NEW
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("name", ["threefry4x32", "philox2x32", "philox4x32"])
def test_xla_counts_a_draw_of_any_width_as_we_do(name, bits):
    def draw(seed):
        return jax.random.bits(jax.random.key(seed, impl=name), (10, 100), dtype=f"uint{bits}")

    with jax.enable_x64(True):
        seed = costax.spec("u32[]")
        ours = as_xla(costax.analyze(draw)(seed).total)
        assert (jax.jit(draw).lower(seed).cost_analysis()["flops"], 0) == ours


@NEW
@pytest.mark.parametrize("seed", ["i32[]", "u32[]", "i64[]", "u64[]"])
def test_xla_counts_a_seed_as_we_do(seed):
    # With 64-bit numbers on, jax masks a 32-bit seed as a 64-bit one.
    def words_of(seed):
        return jax.random.key_data(jax.random.key(seed, impl="philox4x32"))

    with jax.enable_x64("64" in seed):
        seed = costax.spec(seed)
        ours = as_xla(costax.analyze(words_of)(seed).total)
        assert (jax.jit(words_of).lower(seed).cost_analysis()["flops"], 0) == ours


def compiled_flops(numbers: int, dtype: str, **options) -> float:
    def draw(key):
        return lax.rng_bit_generator(key, (numbers,), dtype=dtype, **options)

    with jax.enable_x64(True):
        return jax.jit(draw).lower(costax.spec("u32[4]")).compile().cost_analysis()["flops"]


def drawn(numbers: int, dtype: str, **options) -> int:
    with jax.enable_x64(True):
        return ops(lambda key: lax.rng_bit_generator(key, (numbers,), dtype=dtype, **options), "u32[4]")


def test_the_compilers_threefry_does_the_same_beside_its_counters():
    threefry = {"algorithm": lax.RandomAlgorithm.RNG_THREE_FRY}
    ours = drawn(2048, "uint32", **threefry) - drawn(1024, "uint32", **threefry)
    xla = compiled_flops(2048, "uint32", **threefry) - compiled_flops(1024, "uint32", **threefry)
    assert ours == 512 * work("threefry2x32")[0]
    # 4 operations number a block.
    assert xla - ours == 512 * 4


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_the_compilers_philox_takes_as_many_blocks_as_we_count(dtype):
    ours = drawn(2048, dtype) - drawn(1024, dtype)
    xla = compiled_flops(2048, dtype) - compiled_flops(1024, dtype)
    blocks = 512 if dtype == "uint64" else 256
    # XLA makes each of the 20 double-width products of 5 operations, not of 2, and numbers a block by 9.
    assert xla - ours == blocks * (20 * 3 + 9)


def test_new_keys_are_blocks():
    per_block, per_key = work("threefry2x32")
    assert ops(lambda key: jax.random.split(key, 10), "key<fry>[]") == 10 * (per_block + 3) + per_key
    assert ops(lambda key: jax.random.fold_in(key, 7), "key<fry>[]") == per_block + per_key + 1
    assert ops(lambda key: jax.random.split(key, 10), "key<rbg>[]") == 2 * (10 * per_block + per_key) + 10 * 3


def test_a_key_costs_nothing_to_wrap_and_moves_nothing():
    total = costax.analyze(lambda key: jax.random.wrap_key_data(jax.random.key_data(key)))(
        costax.spec("key<fry>[5]")
    ).total
    assert (total.ops, total.bytes_unfused) == (0, 0)


def test_a_gamma_sample_is_one_transcendental():
    total = costax.analyze(jax.random.gamma)(costax.spec("key<fry>[]"), costax.spec("f32[10]")).total
    assert total.of_kind(TRANSCENDENTAL) == 10


def test_a_generator_that_nobody_described_is_an_error_that_names_it():
    equation = Equation(
        "random_bits", (Operand((), "key<mine>"),), (Operand((3,), "u32"),), {"shape": (3,), "bit_width": 32}
    )
    with pytest.raises(LookupError, match="key<mine>"):
        costax.rules()["random_bits"].function(equation)
