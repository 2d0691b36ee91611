"""The page for people: what a browser gets, as files beside this one. It loads nothing else."""
