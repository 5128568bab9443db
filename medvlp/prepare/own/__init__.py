"""The preparation of one's own images and tables: `medvlp prepare table`.

A file on one step. `gather` takes them in order: `image_files` lists the images and finds the one that a field names;
`profile` counts what the columns hold; `guess` settles what each means, as `columns` notes it, by the usual `names`;
`headers` reads DICOM headers; `survey` reads all rows into a `spool`, by `labels`, `drawn` and `dates`.
`overview` prints what was understood, and `data` hands it to the pipeline, with reports as `texts` reads them.
"""
