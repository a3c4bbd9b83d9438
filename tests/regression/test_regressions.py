"""One test a bug that was here once. Each opens with the story: what happened, why nothing caught it, what holds now."""
