"""Which backbone is best for a table of labels, and by how much: draws, probes, paired intervals, a report."""
