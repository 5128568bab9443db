"""The pixels of a prepared folder beyond one memory map: compressed in files of many images, and read from elsewhere.

`medvlp.prepared` is the only reader, `medvlp.prepare` the only writer. Nothing here imports torch.
"""
