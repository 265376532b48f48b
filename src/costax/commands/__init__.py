"""Commands of the command line that have a file of their own; `cli` adds them to the group."""

from costax.commands.devices import devices
from costax.commands.diff import diff
from costax.commands.measure import measure
from costax.commands.predict import predict

COMMANDS = (devices, diff, measure, predict)
