"""
The numbers of other tools
==========================

Eight tools, one network, and several numbers that are all called "FLOPs".
"""

import matplotlib.pyplot as plt
from resnet import resnet18

import costax

a = costax.analyze(costax.Target(*resnet18()))()
tools = ("torchvision", "fvcore", "thop", "ptflops", "torchinfo", "deepspeed", "torch", "xla")
answers = {tool: a.explain_vs(tool) for tool in tools}
for tool, answer in answers.items():
    print(f"{tool:<12} {answer.count:>15,} {answer.unit}")

# %%

_, ax = plt.subplots(layout="constrained")
names = [f"{tool}, {answer.unit}" for tool, answer in answers.items()]
bars = ax.barh(names, [answer.count / 1e9 for answer in answers.values()])
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.invert_yaxis()
ax.margins(x=0.12)
ax.set_xlabel("G for one image of ResNet-18")

# %%
# The difference between costax's number and that of one tool, line by line.

print(a.explain_vs("ptflops"))
