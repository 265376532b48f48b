"""Commands of the command line that have a file of their own; `cli` adds them to the group."""
