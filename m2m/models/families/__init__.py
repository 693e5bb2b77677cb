"""A module for each family: its networks and objective, or its fit; see `m2m.models`."""
