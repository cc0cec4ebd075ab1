"""The whole system natively on one machine, as docker/compose.yaml runs it in containers: `make stack`."""
