"""Data sets that have versions: pushed to the store, or tracked by DVC in a git repository.

    version.py   `Version`: the files of a data set at one version, and its revision
    pushed.py    data sets in the store as `python -m pipelines dataset push` leaves them
    push.py      pushing one
    find.py      which version a location means

Not covered: plain folders, prefixes and archives, which have no versions (`components.dataset`).
"""
