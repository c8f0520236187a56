"""`python -m worker` is `dicom-router`."""

from worker.cli import main

main(prog_name="dicom-router")
