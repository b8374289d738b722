"""What din_infer is compared with, one adapter a file. All that can be done before a request comes is done once."""
