"""What the small networks of the planted clips have in common."""
