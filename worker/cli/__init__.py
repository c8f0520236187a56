"""The command `dicom-router`. Every command keeps its heavy imports to itself."""

from __future__ import annotations

import sys
from typing import Any

import click

from worker import __version__
from worker.cli.archive import find, remove, send, show, status
from worker.cli.classify import classify
from worker.cli.doctor import doctor
from worker.cli.local import demo, up
from worker.errors import RouterError


class ErrorsInOneLine(click.Group):
    """Tells our own errors in one line, exit 2: they are about the set-up, not about one file."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RouterError as error:
            click.echo(f"dicom-router: {error}", err=True)
            sys.exit(2)


@click.group(cls=ErrorsInOneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Say more of what is done.")
def main(verbose: bool) -> None:
    """Label the X-rays in an Orthanc with the body part that their pixels show.

    Settings come from the environment (DICOM_ROUTER_ORTHANC_URL, DICOM_ROUTER_REDIS_URL, ...);
    `dicom-router doctor` checks them.
    """
    import logging

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)


for _command in (classify, up, demo, send, find, show, remove, status, doctor):
    main.add_command(_command)
