"""Playing cases against a target: streams, steps, rpcs. Judges nothing; what it could not do is a fault of the play."""
