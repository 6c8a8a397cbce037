"""Answers to validation patients come in; how sure an answer is goes out: probabilities, sets, intervals, promises."""
