"""The services of docker/compose.yaml as native processes on one machine: `make stack`."""
