"""The preparation of one's own images and tables: `medvlp prepare table`.

A file on one step: words.yaml and `words` know names and values in several languages, `image_files` finds the image
that a field names, `headers` reads DICOM headers, `columns` guesses what each column means, `labels`, `drawn` and
`texts` read values, `survey` reads all rows into a `spool`, and `overview` prints what was understood.
"""
