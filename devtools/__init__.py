"""What developers run: bin/dev, bin/demo, the tests' helpers, benchmarks, attacks and chaos."""
