"""Tools for developers of gliclass_spark; not part of the wheel."""
