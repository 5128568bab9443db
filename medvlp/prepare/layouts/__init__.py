"""The tables, reports and folders of single data sets, as their makers hand them out.

A file is of one data set, or of one that others take images from. The front ends of `medvlp.prepare.datasets` read
them; what several data sets share is beside this folder.
"""
