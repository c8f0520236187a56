"""Documents; some are written from the code."""
