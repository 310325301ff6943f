"""Damaged inputs for every reader: each is read right or refused with a short error.

`formats.py` has a small sample of each format, what the library reads of it, and what an
independent reader does; `damages.py` damages the sample; `outcomes.py` judges what came of it.
`python -m tests.fuzz` prints the table of docs/fuzzing.md, and `python -m tests.fuzz FORMAT SEED`
makes one input again.
"""
