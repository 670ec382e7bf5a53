"""The Berkeley Function-Calling Leaderboard: items, official checker, multi-turn executor."""
