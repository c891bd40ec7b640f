"""Faults that are too many for the suite: commands that print one line each. Samples of them are tests.

python -m tests.faults                 kills, damaged files, failing servers and full disks in real commands
python -m tests.faults.truncation      a store cut off at every byte
python -m tests.faults.flips           bytes flipped in every cache
python -m tests.faults.processes       eight processes on one store, with and without locks
python -m tests.faults.full_disk       writes of every kind that fail (Linux, root: mounts a tmpfs)
"""
