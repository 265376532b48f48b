"""
Rooflines of devices that you do not have
=========================================

One training step on two devices.
"""

import matplotlib.pyplot as plt
from gpt2 import gpt2_train_step

import costax

a = costax.analyze(gpt2_train_step())()
_, ax = plt.subplots(layout="constrained")
a.plot_roofline("h100-sxm", ax=ax)

# %%

_, ax = plt.subplots(layout="constrained")
a.plot_roofline("tpu-v5e", ax=ax)
