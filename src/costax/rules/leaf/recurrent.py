"""Recurrent networks of cuDNN: one primitive that runs a stack of LSTM layers over a whole sequence."""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE


@cost_rule("rnn_fwd", traits=OPAQUE)
def rnn_fwd(eqn: Equation) -> Cost:
    """An LSTM layer computes four gates of h units at each step, from i inputs and the h units of the previous step.

    macs = batch * steps * 4*h*(i + h) for each layer and direction; i is the number of features for the first layer,
    then h times the directions. For each unit and step 16 arithmetic operations (12 additions before the gates, for
    input, state and two biases; c = f*c + i*g is 3, h = o*tanh(c) is 1) and 5 transcendentals (3 sigmoids, 2 tanh).
    Every sequence is counted at full length. Source: the equations of torch.nn.LSTM, which cuDNN implements.
    XLA: a custom call `cudnn_rnn`, -1 FLOP.
    """
    x = eqn.inputs[0]
    units = _units(eqn)
    return Cost.sum(
        (
            Cost.macs_of(x.dtype, _forward_macs(eqn)),
            Cost.arithmetic(x.dtype, 16 * units),
            Cost.transcendental(x.dtype, 5 * units),
        )
    )


@cost_rule("rnn_bwd", traits=OPAQUE)
def rnn_bwd(eqn: Equation) -> Cost:
    """The gradient of an LSTM: two products for each one of the forward pass, for the input and for the weights.

    macs = 2 * those of `rnn_fwd`. For each unit and step 27 arithmetic operations: 1 joins the gradients of output and
    state, 1 gives the output gate's, 5 the cell's, 4 those of f, i, g and the cell before, 12 go through the
    sigmoids and tanh, 4 sum the bias gradients. The gates are saved by the forward pass: no transcendentals.
    XLA: a custom call `cudnn_rnn_bwd`, -1 FLOP.
    """
    x = eqn.inputs[3]
    return Cost.macs_of(x.dtype, 2 * _forward_macs(eqn)) + Cost.arithmetic(x.dtype, 27 * _units(eqn))


def _directions(eqn: Equation) -> int:
    return 2 if eqn.params["bidirectional"] else 1


def _positions(eqn: Equation) -> Count:
    # x: (batch, steps, features)
    x = eqn.inputs[0] if eqn.name == "rnn_fwd" else eqn.inputs[3]
    return x.shape[0] * x.shape[1]


def _units(eqn: Equation) -> Count:
    """Hidden units that are computed: batch * steps * hidden size, for each layer and direction."""
    return _positions(eqn) * eqn.params["hidden_size"] * eqn.params["num_layers"] * _directions(eqn)


def _forward_macs(eqn: Equation) -> Count:
    h, layers, directions = eqn.params["hidden_size"], eqn.params["num_layers"], _directions(eqn)
    fan_in = eqn.params["input_size"] + h + (layers - 1) * (directions * h + h)
    return _positions(eqn) * directions * 4 * h * fan_in
