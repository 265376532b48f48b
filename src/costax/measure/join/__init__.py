"""Join: the measured time of a trace with the work of the module that ran."""
