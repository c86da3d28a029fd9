"""`receiver doctor`: one module for each thing that can be wrong."""
