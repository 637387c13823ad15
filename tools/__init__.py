"""House-keeping programs of this repository, run by `make`. Not part of the distribution."""
