"""The list of commands. To add a command, add a file beside this one and a row here."""

from costax.cli.analyze import analyze
from costax.cli.calibrate import calibrate
from costax.cli.compare import compare
from costax.cli.devices import devices
from costax.cli.diff import diff
from costax.cli.explain import explain
from costax.cli.fits import fits
from costax.cli.join import join
from costax.cli.measure import measure
from costax.cli.memory import memory
from costax.cli.mfu import mfu
from costax.cli.predict import predict
from costax.cli.rules import rules
from costax.cli.show import show
from costax.cli.sweep import sweep
from costax.cli.what_if import what_if

COMMANDS = (
    analyze,
    calibrate,
    compare,
    devices,
    diff,
    explain,
    fits,
    join,
    measure,
    memory,
    mfu,
    predict,
    rules,
    show,
    sweep,
    what_if,
)
