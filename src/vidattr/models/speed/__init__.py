"""What makes passes faster without changing what they compute, and what happens when memory runs out."""
