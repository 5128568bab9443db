"""Archives of images that are read as a stream, and the decoding of images in the order in which they come.

`stream` joins the parts of an archive, `tar` and `parquet` read its members, `archive` finds out which it is. `members`
knows the rows of the plan by name, and `arrivals` decodes what comes. `tgz` reads small archives of reports.
"""
