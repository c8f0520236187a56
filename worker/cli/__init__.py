"""The command `dicom-router`. Every command keeps its heavy imports to itself."""

from __future__ import annotations

import click

from worker import __version__
from worker.cli.classify import classify
from worker.cli.dead_letters import dead_letters
from worker.cli.demo import demo
from worker.cli.doctor import doctor
from worker.cli.find import find
from worker.cli.remove import remove
from worker.cli.send import send
from worker.cli.show import show
from worker.cli.site_check import site_check
from worker.cli.status import status
from worker.cli.up import up
from worker.console import CommandLine


@click.group("dicom-router", cls=CommandLine)
@click.version_option(__version__)
def main() -> None:
    """Label the X-rays in an Orthanc with the body part that their pixels show.

    Settings come from the environment (DICOM_ROUTER_ORTHANC_URL, DICOM_ROUTER_REDIS_URL, ...);
    `dicom-router doctor` checks them.
    """


for _command in (classify, up, demo, send, find, show, remove, status, dead_letters, site_check, doctor):
    main.add_command(_command)
