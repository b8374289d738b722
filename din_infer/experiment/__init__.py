"""Several models trained on one folder of requests over several seeds, and the report that compares them."""
