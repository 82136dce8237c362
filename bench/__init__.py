"""Benchmarks that anyone can run: `python -m bench` (15 minutes), `python -m bench --quick` (about one).

harness.py    figures, percentiles, machine and versions, tables, JSON
corpora.py    the code that is measured on: what every Python installation has
home.py       a daemon of its own in a fresh home, watched from outside
end_to_end.py from `watch` to answers: every figure that a user feels
incremental.py what a change costs in a project of 100,000 units
large.py      the cold index of a large corpus by words
quality.py    how good the answers are, on labelled data given by path
"""
