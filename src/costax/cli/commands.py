"""Commands of the command line that have a file of their own; `cli` adds them to the group."""

from costax.cli.calibrate import calibrate
from costax.cli.devices import devices
from costax.cli.diff import diff
from costax.cli.fits import fits
from costax.cli.measure import measure
from costax.cli.memory import memory
from costax.cli.predict import predict
from costax.cli.what_if import what_if

COMMANDS = (calibrate, devices, diff, fits, measure, memory, predict, what_if)
