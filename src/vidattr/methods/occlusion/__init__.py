"""Occlusion of parts of a clip, by cuboids, tubes or random masks."""
