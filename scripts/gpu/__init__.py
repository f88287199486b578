"""The sections of `bench_gpu.py`."""
