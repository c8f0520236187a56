"""`python -m train` is `dicom-router-train`."""

from train.cli import main

main(prog_name="dicom-router-train")
