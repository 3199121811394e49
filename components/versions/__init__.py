"""Data sets that have versions: pushed to the store, or tracked by DVC in a git repository.

    version.py   `Version`: the files of a data set at one version, and its revision
    pushed.py    data sets in the store as `python -m pipelines dataset push` leaves them
    push.py      pushing one
    dvc.py       data sets that DVC tracks in a git repository, read from its S3 remote
    dvc_location.py, dvc_files.py, git.py   what those are named, what DVC writes, and one commit of a repository
    find.py      which version a location means

Not covered: plain folders, prefixes and archives, which have no versions (`components.dataset`).
"""
