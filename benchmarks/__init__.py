"""sagefix beside what people would use instead, measured in one run. See README.md."""
