"""
The numbers of other tools
==========================

Eight tools, one network, and several numbers that are all called "FLOPs".
"""

from resnet import resnet18

import costax

a = costax.analyze(costax.Target(*resnet18()))()
for tool in ("torchvision", "fvcore", "thop", "ptflops", "torchinfo", "deepspeed", "torch", "xla"):
    answer = a.explain_vs(tool)
    print(f"{tool:<12} {answer.count:>15,} {answer.unit}")

# %%
# The difference between costax's number and that of one tool, line by line.

print(a.explain_vs("ptflops"))
