"""
How attention outgrows the rest
===============================

The forward pass of GPT-2 for several context lengths. Products with weights grow linearly with the number of tokens,
attention grows quadratically.
"""

import matplotlib.pyplot as plt
from gpt2 import GPT2

import costax

points = {tokens: costax.analyze(GPT2())(costax.spec(f"i32[1,{tokens}]")) for tokens in (64, 128, 256, 512, 1024)}
_, ax = plt.subplots(figsize=(9, 4), layout="constrained")
costax.plot_scaling(points, label="tokens", depth=3, ax=ax)
