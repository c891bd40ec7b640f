"""Would this run work? Small checks before anything expensive; the list stands in ``checks``."""
