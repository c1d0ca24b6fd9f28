"""The parts of `examples/benchmark.py`.

records        what is stored
contestants    who stores it, and how
measure        one contestant's run
scale          kvmap alone, at size
report         medians, tables, floors
chart          the picture
svg            what a picture is made of
"""
