//! The registry against a naive model of the walk.
