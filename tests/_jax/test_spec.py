"""`costax.spec`: arrays from text."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import costax
from costax.core import dtypes
from costax.errors import InputError


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("f32[8,224,224,3]", (8, 224, 224, 3), "float32"),
        ("f32[]", (), "float32"),
        ("f32[0]", (0,), "float32"),
        (" bf16 [ 2 , 128 ] ", (2, 128), "bfloat16"),
        ("i32[4]", (4,), "int32"),
        ("s8[4]", (4,), "int8"),
        ("u8[4]", (4,), "uint8"),
        ("i4[4]", (4,), "int4"),
        ("bool[4]", (4,), "bool"),
        ("pred[4]", (4,), "bool"),
        ("c64[2,2]", (2, 2), "complex64"),
        ("f8_e4m3fn[64]", (64,), "float8_e4m3fn"),
        ("float32[3]", (3,), "float32"),
        ("bfloat16[3]", (3,), "bfloat16"),
    ],
)
def test_a_text_names_an_array(text, shape, dtype):
    found = costax.spec(text)
    assert isinstance(found, jax.ShapeDtypeStruct)
    assert (found.shape, found.dtype) == (shape, jnp.dtype(dtype))


@pytest.mark.parametrize(("text", "implementation"), [("key<fry>[]", "threefry2x32"), ("key<rbg>[3]", "rbg")])
def test_keys_have_specs_too(text, implementation):
    found = costax.spec(text)
    expected = jax.eval_shape(lambda: jax.random.key(0, impl=implementation))
    assert found.dtype == expected.dtype


@given(
    st.sampled_from(["f32", "bf16", "f16", "i8", "i32", "u32", "bool", "c64", "f8_e5m2"]),
    st.lists(st.integers(0, 10**12), max_size=6),
)
def test_a_spec_reads_back_as_it_was_written(dtype, shape):
    found = costax.spec(f"{dtype}[{','.join(map(str, shape))}]")
    assert list(found.shape) == shape
    assert dtypes.short_name(found.dtype.name) == dtype


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f32",
        "f32[",
        "f32]",
        "f32[8",
        "f32(8)",
        "[8]",
        "f32[8,]",
        "f32[,8]",
        "f32[8,,3]",
        "f32[-1]",
        "f32[1.5]",
        "f32[8][3]",
        "f32[8] f32[3]",
        "f33[8]",
        "floaty[8]",
        "str[8]",
        "object[8]",
        "float[8]",
        "key<none>[]",
        "key[]",
        "f32[8x3]",
        "f32[s/2]",
        "f32[while]",
        "f32[s+]",
        "f32[f(s)]",
        "f32[1 - 2]",
        "f32[s]; s",
        "f32[s]; s >= ",
        "f32[8]; f32[8]",
        "f32[1_000]",
        "f128[8]",
        "c512[8]",
        "f32[٣]",
    ],
)
def test_a_text_that_names_no_array_is_an_error_with_a_cure(text):
    with pytest.raises(InputError) as error:
        costax.spec(text)
    message = str(error.value)
    assert repr(text) in message
    assert "f32[8,224,224,3]" in message


@pytest.mark.parametrize("value", [None, 3, f"{b'f32[3]'}".encode(), (8, 3)])
def test_what_is_no_text_is_an_error(value):
    with pytest.raises(InputError, match="is not a string"):
        costax.spec(value)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_64_bits_are_kept_only_where_jax_keeps_them():
    def made(x64):
        with jax.enable_x64(x64):
            return jax.jit(lambda x: x).trace(costax.spec("f64[3]")).jaxpr.in_avals[0].dtype

    assert (made(False), made(True)) == (jnp.dtype("float32"), jnp.dtype("float64"))


@pytest.mark.parametrize(
    ("text", "half"),
    [
        ("f64[8,8]", "float32"),
        ("i64[]", "int32"),
        ("u64[3]", "uint32"),
        ("c128[2,2]", "complex64"),
        ("float64[b]", "float32"),
    ],
)
def test_a_dtype_of_64_bits_that_jax_halves_is_a_warning_that_names_the_setting(text, half):
    with pytest.warns(UserWarning, match=f"traced as {half}, because jax_enable_x64 is off") as caught:
        costax.spec(text)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with jax.enable_x64(True):
        # Every warning is an error in the tests.
        costax.spec(text)
    for kept in ("f32[8]", "c64[8]", "bf16[8]", "bool[8]", "key<fry>[]"):
        costax.spec(kept)


def test_the_command_line_warns_of_64_bits_too():
    from click.testing import CliRunner

    from costax.cli.app import main

    with pytest.warns(UserWarning, match="jax_enable_x64"):
        done = CliRunner().invoke(main, ["analyze", "jax.numpy:sin", "--input", "f64[8]"])
    assert done.exit_code == 0
