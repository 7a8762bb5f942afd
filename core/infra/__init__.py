"""One file per outside system; vendors are named here and nowhere else."""
