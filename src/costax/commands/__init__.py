"""Commands of the command line that have a file of their own; `cli` adds them to the group."""

from costax.commands.calibrate import calibrate
from costax.commands.devices import devices
from costax.commands.diff import diff
from costax.commands.fits import fits
from costax.commands.measure import measure
from costax.commands.memory import memory
from costax.commands.predict import predict
from costax.commands.what_if import what_if

COMMANDS = (calibrate, devices, diff, fits, measure, memory, predict, what_if)
