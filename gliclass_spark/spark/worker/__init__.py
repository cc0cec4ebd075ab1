"""What runs inside an executor's Python worker."""
