"""The GLiClass architectures, each a torch module under the published parameter names."""
