"""The programs that only developers run: bin/dev, bin/demo, benchmarks, attacks, chaos."""
