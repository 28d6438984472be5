"""Become another program that is killed when the process which started this one dies, however it dies.

A script of its own: `python leash.py PROGRAM ARGUMENTS…`. Linux only; elsewhere it just becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))  # survives the exec below
os.execv(sys.argv[1], sys.argv[1:])
