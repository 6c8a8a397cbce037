"""Where the checkout is: the folder with the code, `params.yaml`, `dvc.yaml` and `workspaces/`."""

from pathlib import Path

import stages

CHECKOUT = Path(stages.__file__).resolve().parents[1]
