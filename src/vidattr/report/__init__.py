"""A folder of linked pages about stored maps and scores: tables, charts, a gallery, and a player for every clip."""
