"""GLiClass architectures: torch modules under the published parameter names."""
