"""Every Python imports this file when it starts, if its folder is in PYTHONPATH: the servers of other projects then
begin with less work, as fetalflow's stages do (fetalflow/__init__.py, stages/__init__.py)."""

import gc
import sys

from loopback import keep_to_loopback, keep_to_this_machine

keep_to_loopback()
keep_to_this_machine()
gc.set_threshold(50_000, 20, 20)
sys.modules.setdefault("rfc3987_syntax", None)
