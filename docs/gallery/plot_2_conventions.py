"""
What the other tools would say
==============================

One network, ten numbers. All of them are somebody's "FLOPs".
"""

from resnet import resnet18

import costax

a = costax.analyze(costax.Target(*resnet18()))()
for tool in ("torchvision", "fvcore", "thop", "ptflops", "torchinfo", "deepspeed", "torch", "xla"):
    answer = a.explain_vs(tool)
    print(f"{tool:<12} {answer.count:>15,} {answer.unit}")

# %%
# The way from our number to another, line by line.

print(a.explain_vs("ptflops"))
