"""
Where the work of GPT-2 goes
============================

The training step of GPT-2 small, by layer and by direction. Nothing is executed.
"""

import matplotlib.pyplot as plt
from gpt2 import gpt2_train_step

import costax

a = costax.analyze(gpt2_train_step())()
print(a)

# %%
# Blocks of equal cost share a bar.

_, ax = plt.subplots(layout="constrained")
a.plot_breakdown(depth=2, ax=ax)

# %%
# The costs of the forward pass, the backward pass and the update.

for direction, cost in a.by_direction().items():
    print(f"{direction:<10} {cost.macs:>20,} MACs {cost.flops:>20,} FLOPs")
