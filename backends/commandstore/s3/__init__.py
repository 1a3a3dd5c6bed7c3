"""Commands in an S3 bucket."""
