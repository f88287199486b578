"""Weights and training logs of the two small networks, and lists of class names in the order of a network's outputs.

`kinetics400`, `kinetics600`, `kinetics700`: the alphabetical order of the data sets' own annotations (Google, CC BY
4.0), which many released networks use and 3D-ResNets do not: a model's configuration says which its released file has.
`ucf101`: the order of the data set's `classInd.txt` (CRCV, University of Central Florida), where Hammering comes before
HammerThrow and JumpingJack before JumpRope; sorted folder names are in another order, so a checkpoint's own names come
first. The names of EPIC-KITCHENS are CC BY-NC 4.0 and not here: they are read from the user's copy of its annotations.
"""
