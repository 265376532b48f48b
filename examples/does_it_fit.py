"""Does a training step fit, and which buffers are alive at its peak? Nothing runs, and no array is allocated.

python examples/does_it_fit.py
costax fits examples/gpt2.py:gpt2_train_step --device v5e
"""

import costax


def main() -> None:
    """Check GPT-2 small with eight sequences on four devices, and print its largest buffers."""
    import gpt2

    analysis = costax.analyze(gpt2.gpt2_train_step())()
    for device in ("l4", "v5e", "a100-sxm-40", "h100-sxm"):
        fit = costax.fits(analysis, device)
        print(f"{device:12} {'fits' if fit else 'does not fit'}, {fit.margin / 2**30:+.1f} GiB")
    print()
    print(costax.fits(analysis, "v5e"))
    print("\nThe largest buffers at the peak:")
    for buffer in analysis.live_at_peak(5, fused=True):
        shape = ",".join(map(str, buffer.shape))
        print(f"  {buffer.nbytes / 2**20:7.0f} MiB  {buffer.dtype}[{shape}] {buffer.scope}: {buffer.why}")


if __name__ == "__main__":
    main()
