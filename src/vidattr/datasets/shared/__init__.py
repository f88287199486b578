"""What several datasets need: folders, annotation files, tubes, drawn scenes."""
