"""SDP beside its rivals on equal work: the same networks, data, passes and trials, each arithmetic in exact integers."""
