"""The benchmark with planted truth: families × networks × methods, a leaderboard, and which metric can be trusted."""
