"""Entry point: name this file as `PythonScript` in Orthanc's configuration.

An Orthanc runs one Python script. To run other scripts beside this one, write
a script that imports theirs and calls `orthanc_plugin.wiring.register()`.
"""

import sys
from pathlib import Path

# Not resolved: where the plugin was assembled of links, its library lies beside the links.
_here = Path(__file__).absolute().parent
# `lib` holds celery and redis where the plugin was assembled as one folder.
for _folder in (_here.parent, _here.parent / "lib"):
    if _folder.is_dir() and str(_folder) not in sys.path:
        sys.path.append(str(_folder))

from orthanc_plugin.wiring import register  # noqa: E402

register()
