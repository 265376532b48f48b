"""
Where the work of GPT-2 goes
============================

The training step of GPT-2 small, in layers and in directions. Nothing is executed.
"""

import matplotlib.pyplot as plt
from gpt2 import gpt2_train_step

import costax

a = costax.analyze(gpt2_train_step())()
print(a)

# %%
# Equal blocks share a bar.

_, ax = plt.subplots(layout="constrained")
a.plot_breakdown(depth=2, ax=ax)

# %%
# Forward, backward, update.

for direction, cost in a.by_direction().items():
    print(f"{direction:<10} {cost.macs:>20,} MACs {cost.flops:>20,} FLOPs")
