"""Readers of public data sets, and the Parquet files of requests that they write."""
