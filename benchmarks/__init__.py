"""Benchmarks of gliclass_spark; not part of the wheel."""
