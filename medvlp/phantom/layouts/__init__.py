"""Raw layouts of real data sets that the phantom can be written in."""
