"""One module for each family: its network and objective, or its fit; see `m2m.models`."""
