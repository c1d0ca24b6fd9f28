"""The parts of `examples/benchmark.py`.

records        what is stored
contestant     what a contestant is; dicts and engines are some, contestants lists them
measure        one contestant's run
promises       kvmap's syncs and fresh reads; bytes written to the device
scale          kvmap alone, at size
report         medians, tables
limits         the figures to reach
chart          the picture
svg            what a picture is made of
"""
